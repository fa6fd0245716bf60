"""The metrics of predictors: one file each, found by its name."""
