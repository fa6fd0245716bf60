"""Metrics, baselines, paired tests and the gate."""
