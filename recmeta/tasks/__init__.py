"""Per-user tasks: splitting, storing as Arrow shards, reading and batching."""
