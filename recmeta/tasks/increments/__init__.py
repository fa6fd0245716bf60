"""A task set as a base and what came on top of it: a day's rows cost what a day's rows do."""
