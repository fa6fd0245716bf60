"""Rows on their way into tasks: numbers in place of ids, some users' at a time."""
