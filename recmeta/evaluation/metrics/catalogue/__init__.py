"""How high a user's relevant items are ranked among others."""
