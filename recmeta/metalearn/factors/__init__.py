"""Factorisations of a log, and what content says of an item before anybody has met it."""
