"""The feature store: a Feast repository."""
