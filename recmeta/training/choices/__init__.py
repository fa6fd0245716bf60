"""Meta-training of what users take next."""
