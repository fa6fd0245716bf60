"""Loading saved models.

>>> import recmeta
>>> recmeta.load("no-such-folder")
Traceback (most recent call last):
recmeta.errors.UserError: there is no model in 'no-such-folder': ...
"""

import os
from typing import Any

from recmeta import extras
from recmeta.api import origin as origins
from recmeta.api.recommender import Recommender
from recmeta.errors import UserError
from recmeta.errors.causes import noted
from recmeta.metalearn.model import Model
from recmeta.training.device import choose_device
from recmeta.workspace import Folder, Workspace, sealed

REGISTERED = "models:/"


@noted()
def load(
    place: str | os.PathLike[str],
    *,
    workspace: str | os.PathLike[str] = "workspace",
    device: str = "cpu",
) -> Recommender[Any]:
    """Return a saved model.

    Args:
        place: a folder, or an address in an object store, that `Recommender.save` wrote or that
            holds a model of a workspace (`WORKSPACE/models/KEY`); or `models:/NAME@ALIAS` or
            `models:/NAME/VERSION` in MLflow, which needs recmeta's pipeline installed.
        workspace: the workspace whose MLflow store is used if `place` is in MLflow and
            `MLFLOW_TRACKING_URI` is not set.
        device: `cpu`, `cuda` or `auto`.

    Raises:
        UserError: if there is no model.
        Broken: if one of its files is missing or not what was written.
    """
    folder = sealed(model_folder(place, workspace))
    known = origins.read(folder)
    origin, seen = (None, None) if known is None else known
    return Recommender(Model.load(folder, choose_device(device)), origin=origin, seen=seen)


def model_folder(
    place: str | os.PathLike[str], workspace: str | os.PathLike[str] = "workspace"
) -> Folder:
    """Return the folder of a model that a user names.

    Raises:
        UserError: if there is none, or MLflow is needed and not installed.
    """
    if not isinstance(place, str | os.PathLike):
        raise UserError(
            f"the place is a {type(place).__name__}; it must be a folder, an address in an object "
            "store, or models:/NAME@ALIAS."
        )
    text = os.fspath(place)
    if text.startswith(REGISTERED):
        with extras.explained():
            from recmeta.registry.models.versions import named_model

            return named_model(Workspace(workspace), text)
    folder = Folder.at(place)
    if not folder.exists("model.json"):
        raise UserError(
            f"there is no model in {text!r}: name a folder that Recommender.save wrote, "
            "WORKSPACE/models/KEY, or models:/NAME@ALIAS."
        )
    return folder
