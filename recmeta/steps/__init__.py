"""The pipeline, one short file per step. Read these first."""
