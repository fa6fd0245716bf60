"""Parts that several baselines share: training rows, items as vectors, summaries of a support."""
