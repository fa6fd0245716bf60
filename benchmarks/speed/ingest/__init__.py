"""Ingest: a log file becomes rows of a table, with unique keys, and refused rows."""
