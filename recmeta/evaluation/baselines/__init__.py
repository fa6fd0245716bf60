"""Recommenders without meta-learning that a meta-learner must beat: one file each, with its
candidates, how it is fitted and how it predicts."""
