"""Linear models of the content of items."""
