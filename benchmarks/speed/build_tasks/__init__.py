"""Task building against the same in pandas and in DuckDB."""
