"""Preference estimators: one file each, found by its name."""
