"""Models that look for training users who are similar to the new one."""
