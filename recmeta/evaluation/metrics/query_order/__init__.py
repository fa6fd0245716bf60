"""How well a user's own query rows are ordered."""
