"""What the core computes on: encoded attributes, batches of users, groups, look-ups."""
