"""Comparing predictors on the same users: resamples, paired tests, the gate."""
