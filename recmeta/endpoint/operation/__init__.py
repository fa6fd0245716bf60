"""What the operator and the owner see: health, metrics, logs, pages."""
