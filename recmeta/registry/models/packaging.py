"""A finished model as an MLflow model: code, safetensors, Arrow, a signature and an example."""

import importlib.metadata
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow.models import Model as MLflowModel
from mlflow.models import ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME, MODEL_CODE_PATH
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array

from recmeta import schema
from recmeta.config import to_dict
from recmeta.metalearn.model import Model
from recmeta.registry import served_model
from recmeta.registry.frames import profile_fields
from recmeta.registry.models.features import features_read
from recmeta.registry.models.files import MODEL_FILES, OPTIONAL_FILES
from recmeta.serving.ranking import ScoringConfig
from recmeta.workspace import Folder, sealed, sealing

REQUIREMENTS = ("recmeta", "mlflow", "torch", "numpy", "pandas", "pyarrow", "safetensors")
CODE = Path(served_model.__file__).with_name("models_from_code.py")
EXAMPLE_ROWS = 3


def package(folder: Folder, target: Path, mlflow_model: MLflowModel) -> None:
    """Write an MLflow model into `target`, a path that does not exist yet. Nothing in it is
    pickled.

    Beside `target`, which is to be in a temporary folder, the model's files are collected first.

    Its metadata names the feature service and the features that it reads.

    Args:
        folder: what `recmeta.metalearn.model.Model.save` wrote; other files in it stay behind, and
            those that are taken get digests of their own.
        mlflow_model: carries the ids of the run and of the logged model.
    """
    copy = target.with_name(served_model.ARTIFACT)
    written = sealed(folder)
    with sealing(Folder.at(copy)) as place:
        there = [name for name in OPTIONAL_FILES if folder.exists(name)]
        for name in (*MODEL_FILES, *there):
            place.write_bytes(name, written.read_bytes(name))
    model = Model.load(Folder.at(copy))
    mlflow.pyfunc.save_model(
        path=str(target),
        python_model=str(CODE),
        artifacts={served_model.ARTIFACT: str(copy)},
        signature=signature(model),
        input_example=input_example(model),
        pip_requirements=requirements(),
        metadata=to_dict(features_read(model)),
        mlflow_model=mlflow_model,
    )
    _name_no_place(target)


def _name_no_place(target: Path) -> None:
    """Remove from MLmodel where the model was packaged and where recmeta is installed here.

    MLflow records both. To load a model it looks for the files' names inside it.
    """
    path = target / MLMODEL_FILE_NAME
    about = MLflowModel.load(str(path))
    how = about.flavors[mlflow.pyfunc.FLAVOR_NAME]
    for artifact in how["artifacts"].values():
        artifact["uri"] = artifact["path"]
    how[MODEL_CODE_PATH] = CODE.name
    about.save(str(path))


def signature(model: Model) -> ModelSignature:
    """Return the columns, parameters and results of the served model.

    Ids, values, times and attributes are of any type, since MLflow would otherwise refuse a frame
    whose ids or ratings are integers, as every CSV file of ratings gives them; `ServedRecommender`
    converts them.
    """
    attributes = [
        ColSpec(Array(DataType.string) if kind == "multi" else AnyType(), name, required=False)
        for name, kind in profile_fields(model).items()
    ]
    optional = (schema.ITEM_ID, schema.VALUE, schema.TIMESTAMP)
    inputs = Schema(
        [
            ColSpec(AnyType(), schema.USER_ID),
            *(ColSpec(AnyType(), name, required=False) for name in optional),
            *attributes,
        ]
    )
    outputs = [
        ColSpec(DataType.string, schema.USER_ID),
        ColSpec(DataType.integer, schema.RANK),
        ColSpec(DataType.string, schema.ITEM_ID),
        ColSpec(DataType.float, schema.RELATIVE_LIKELIHOOD),
        ColSpec(DataType.float, schema.SCORE),
    ]
    if model.catalogue.items.titles() is not None:
        outputs.insert(3, ColSpec(DataType.string, schema.TITLE, required=False))
    defaults = ScoringConfig()
    params = [
        ParamSpec("top_k", DataType.long, defaults.top_k),
        ParamSpec("exclude_seen", DataType.boolean, defaults.exclude_seen),
    ]
    return ModelSignature(inputs, Schema(outputs), ParamSchema(params))


def input_example(model: Model) -> pd.DataFrame:
    """Return a new user who took the items that most users took."""
    catalogue = model.catalogue
    popularity = catalogue.statistics.num_users[-1]
    top = (-popularity).argsort(kind="stable")[:EXAMPLE_ROWS]
    columns: dict[str, Any] = {
        schema.USER_ID: ["a-new-user"] * len(top),
        schema.ITEM_ID: [catalogue.items.item_id[int(number)].as_py() for number in top],
    }
    if model.objective == "rating":
        columns[schema.VALUE] = [model.value_range[1]] * len(top)
    return pd.DataFrame(columns)


def requirements() -> list[str]:
    """Return pinned pip requirements: the versions installed here, without local build tags."""
    return [f"{name}=={_release(name)}" for name in REQUIREMENTS]


def _release(name: str) -> str:
    """Return the installed version; `2.13.0+cpu` is `2.13.0` on the package index."""
    return importlib.metadata.version(name).partition("+")[0]
