"""Meta-training: the trainer, its optimisers, checkpoints, the loss that stops it."""
