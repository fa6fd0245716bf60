"""Fetching: the public data sets, and how each is read."""
