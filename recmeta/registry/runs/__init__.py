"""Runs in MLflow: trainings, trials, what a run's page says."""
