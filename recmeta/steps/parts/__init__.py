"""What only steps share."""
