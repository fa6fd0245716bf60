"""Synthetic logs and the learner conformance suite, for our tests and for yours."""
