"""Recommenders without meta-learning that a meta-learner must beat, one small file each."""
