"""What several baselines share: their training rows, items as vectors, summaries of a support."""
