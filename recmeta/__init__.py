"""recmeta: meta-learned recommendations for users who are new."""

__version__ = "0.1.0"
