"""Checking: rows as they were written become rows that keep every rule, or go into quarantine."""
