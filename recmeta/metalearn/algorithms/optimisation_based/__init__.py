"""Learners that adapt by steps of an optimiser."""
