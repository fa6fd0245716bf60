"""Learners that adapt by the forward pass of a network."""
