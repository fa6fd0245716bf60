"""A learner, a baseline and a metric for recmeta, one file each."""
