"""What a learner's output means: levels of a rating, uncertainty, units of the value."""
