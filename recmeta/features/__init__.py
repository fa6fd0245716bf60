"""Item statistics and attributes as they were known at a time."""
