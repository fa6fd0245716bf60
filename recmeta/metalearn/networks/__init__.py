"""Networks that predict a user's preference for an item."""
