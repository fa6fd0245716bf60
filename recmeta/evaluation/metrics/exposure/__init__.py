"""Metrics of the items that all lists together show."""
