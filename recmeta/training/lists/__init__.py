"""Learning the order of lists."""
