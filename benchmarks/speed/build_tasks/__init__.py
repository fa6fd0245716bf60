"""Task building compared with pandas and DuckDB."""
