"""Federations of clients that keep their interactions."""
