"""Contests: accuracy by published protocols, and speed beside other libraries."""
