"""From the table of interactions to placed rows, read with Polars as a stream."""
