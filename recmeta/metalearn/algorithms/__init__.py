"""Meta-learning algorithms, a small file each."""
