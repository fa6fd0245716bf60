"""An offline store for Feast in Polars, in parts: sources, entity frames, as-of joins, results."""
