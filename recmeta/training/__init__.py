"""Training: a configuration and a task set become a model."""
