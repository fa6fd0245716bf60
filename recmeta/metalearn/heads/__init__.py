"""Heads that turn a learner's output into ratings, uncertainties and lists, in units of the
value."""
