"""The inputs of the core: encoded attributes, batches of users, groups, look-ups."""
