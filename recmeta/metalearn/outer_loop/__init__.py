"""Meta-training: the trainer, its optimisers, its checkpoints and early stopping."""
