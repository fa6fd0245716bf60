"""A folder to work in, as `recmeta init` lays it out: DAGs, feature repository, configuration."""
