"""What MLflow copies into a model and runs when the model is loaded ("models from code")."""

from mlflow.models import set_model

from recmeta.registry.served_model import ServedRecommender

set_model(ServedRecommender())
