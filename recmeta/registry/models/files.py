"""The files that a model consists of, in its folder and among MLflow's artifacts."""

MODEL_FILES = (
    "model.safetensors",
    "model.json",
    "encoder.arrow",
    "items.arrow",
    "statistics.arrow",
)
OPTIONAL_FILES = ("levels.safetensors", "lists.safetensors")
"""The files of heads that a model may have learned, for levels of a rating and for lists;
model.json says which exist."""
