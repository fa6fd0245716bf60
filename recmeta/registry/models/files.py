"""The files that a model consists of, in its folder and among MLflow's artifacts."""

MODEL_FILES = (
    "model.safetensors",
    "model.json",
    "encoder.arrow",
    "items.arrow",
    "statistics.arrow",
)
OPTIONAL_FILES = ("lists.safetensors",)
"""Those that a model has which learned what its lists are ordered by; model.json says so."""
