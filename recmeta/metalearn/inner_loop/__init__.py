"""The inner loop of gradient-based meta-learning: the same steps, computed in two ways."""
