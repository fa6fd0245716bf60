"""Benchmarks: accuracy by published protocols, and speed compared with other libraries."""
