"""Learners that choose between other learners."""
