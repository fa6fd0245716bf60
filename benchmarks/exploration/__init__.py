"""The costs and gains of exploration, and the validity of off-policy estimates."""
