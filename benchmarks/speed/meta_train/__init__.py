"""Meta-training in users per second: ours and four ways to write the same down."""
