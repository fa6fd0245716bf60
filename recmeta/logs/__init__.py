"""Interaction logs: sources, mappings, contracts, quarantine and the Delta tables."""
