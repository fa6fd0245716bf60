"""For the operator and the owner: health, metrics, logs, pages."""
