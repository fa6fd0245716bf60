"""Meta-training in users per second: recmeta and four other implementations of the same
algorithm."""
