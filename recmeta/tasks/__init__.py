"""Per-user tasks: how they are split, stored as Arrow shards, read and batched."""
