"""Adding to tasks that were built before: the rows that came since, and what they change."""
