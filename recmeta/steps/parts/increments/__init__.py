"""Tasks that go on from those that were built before: what came since, and what it changes."""
