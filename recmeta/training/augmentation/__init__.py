"""Generated tasks beside those of the training users."""
