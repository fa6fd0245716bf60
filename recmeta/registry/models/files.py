"""The files that a model consists of, in its folder and among MLflow's artifacts."""

MODEL_FILES = (
    "model.safetensors",
    "model.json",
    "encoder.arrow",
    "items.arrow",
    "statistics.arrow",
)
OPTIONAL_FILES = ("levels.safetensors", "lists.safetensors")
"""Those of heads that a model may have learned: how likely each level of a rating is, and what its
lists are ordered by; model.json says so."""
