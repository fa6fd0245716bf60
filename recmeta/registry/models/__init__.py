"""Models in MLflow: versions and aliases, what a logged model consists of."""
