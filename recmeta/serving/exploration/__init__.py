"""Lists that try items about which the model is uncertain, and the propensity of each item."""
