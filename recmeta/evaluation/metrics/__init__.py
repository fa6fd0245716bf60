"""What is measured of predictors: one file each, found by its name."""
