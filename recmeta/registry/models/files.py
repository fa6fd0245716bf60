"""The files that a model consists of, in its folder and among MLflow's artifacts."""

MODEL_FILES = (
    "model.safetensors",
    "model.json",
    "encoder.arrow",
    "items.arrow",
    "statistics.arrow",
)
