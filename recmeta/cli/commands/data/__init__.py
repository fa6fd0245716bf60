"""The built-in public data sets."""
