"""From logs to tasks."""
