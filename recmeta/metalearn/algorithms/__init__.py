"""Meta-learning algorithms: one learner, one file, named as the learner is."""
