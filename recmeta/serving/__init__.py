"""Adapt to users and score items from a finished model."""
