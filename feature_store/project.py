"""The project in Feast's registry; its name is that of feature_store.yaml."""

from feast import Project

recmeta = Project(name="recmeta", description="What is known of users and items, and since when.")
