"""MLflow: runs, model versions, aliases and the served model."""
