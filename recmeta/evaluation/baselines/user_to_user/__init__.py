"""Models that look for training users who are like the new one."""
