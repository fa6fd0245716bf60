"""Learners that adapt by comparing items with those that the user rated."""
