"""Ingest: a log in a file becomes rows of a table, each key once, and rows that were refused."""
