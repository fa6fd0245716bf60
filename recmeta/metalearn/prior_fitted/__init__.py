"""A network that recommends from the statistics of any log, and has learned it from synthetic ones
alone: what it reads, and what it makes of that."""
