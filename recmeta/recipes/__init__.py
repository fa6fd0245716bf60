"""Named configurations as plain functions."""
