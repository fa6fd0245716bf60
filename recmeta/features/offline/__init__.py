"""The parts of an offline store for Feast in Polars: sources, entity frames, as-of joins,
results."""
