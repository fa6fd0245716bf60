"""Averages of all values, of the item and of the user."""
