"""Recommenders without meta-learning that a meta-learner must beat: one file each, with what is
tried of it, how it is fitted and how it predicts."""
