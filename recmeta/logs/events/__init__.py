"""Events that the endpoint keeps until they are old: stored, read by user, taken into the log."""
