"""The baselines: a file per family, with the grid that its hyperparameters are chosen from."""
