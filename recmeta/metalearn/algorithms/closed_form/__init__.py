"""Learners that adapt by solving a system of equations."""
