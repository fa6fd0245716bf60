"""What exploration costs and wins, and whether off-policy estimates are what they say."""
