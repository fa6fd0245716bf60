"""From new users to their lists."""
