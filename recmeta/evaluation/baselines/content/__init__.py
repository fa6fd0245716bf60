"""Linear models of what items are made of."""
