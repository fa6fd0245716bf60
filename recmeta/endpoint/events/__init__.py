"""What users did: kept when a shop says so, and read when it asks for them again."""
