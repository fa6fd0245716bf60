"""Lists that try items of which the model is not sure, and how likely each item was to be shown."""
