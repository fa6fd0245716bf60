"""Averages: of everything, of the item, of the user."""
