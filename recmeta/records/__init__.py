"""What the records of finished steps consist of: the definition of a step, and provenance."""
