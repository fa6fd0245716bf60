"""Models whose parameters are weights between pairs of items."""
