"""Measuring predictors on users: per user, over the catalogue, by number of shots."""
