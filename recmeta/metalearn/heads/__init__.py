"""What a learner's output means: levels of a rating, how far it may be off, units of the value."""
