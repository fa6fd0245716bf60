"""From new users to what they get."""
