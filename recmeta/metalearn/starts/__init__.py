"""Starts of meta-training: from factors, another model, or another data set's content."""
