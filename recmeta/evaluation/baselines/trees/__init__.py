"""Trees on features of user, item and support."""
