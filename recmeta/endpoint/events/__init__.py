"""Events of users: kept when a shop sends them, and read when it asks for these users again."""
