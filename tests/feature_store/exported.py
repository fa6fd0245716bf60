"""Capsules and item vectors in the tables of a workspace, and what they must score."""

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from deltalake import write_deltalake
from feature_repository import Repository
from random_models import drawn_user

from recmeta import schema
from recmeta.exporting.capsules import VectorSpace, scores
from recmeta.logs import tables
from recmeta.metalearn.model import Model
from recmeta.serving.intake import Intake
from recmeta.serving.ranking import adapt_users
from recmeta.workspace import Workspace


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exported:
    """What a version of a model has for some users."""

    item_ids: list[str]
    about: dict[str, Any]
    """The content of vectors.json."""
    score_BI: npt.NDArray[np.float32]
    """The scores by which the server orders the users' lists."""


def export(
    workspace: Workspace,
    model: Model,
    version: str,
    user_ids: Sequence[str],
    at: datetime.datetime,
) -> Exported:
    """Adapt a model to users with 0, 4, 8, … rows, and write the tables of
    `recmeta export --vectors`."""
    space = VectorSpace(model, version)
    given = [drawn_user(model, 4 * n, seed=n) for n in range(len(user_ids))]
    users = adapt_users(space.scorer, Intake(model).tasks(given))
    users = dataclasses.replace(users, user_id=list(user_ids))
    tables.overwrite(workspace, schema.ITEM_VECTORS, space.items(exported_at=at))
    tables.create(workspace, schema.USER_CAPSULES)
    rows = space.capsules(users, run=version, adapted_at=at)
    write_deltalake(workspace.table_uri(schema.USER_CAPSULES), rows, mode="append")
    block = space.scorer.item_block(-1, schema.END_OF_TIME, 0, model.catalogue.num_items)
    return Exported(
        item_ids=model.catalogue.items.item_id.to_pylist(),
        about=space.about(),
        score_BI=space.scorer.rank_block(space.scorer.settled(users.state), block).numpy(),
    )


def of_capsules(repository: Repository, user_ids: Sequence[str]) -> dict[str, list[Any]]:
    """Return the online capsules of users, read as a program reads them that knows Feast alone."""
    return _online(repository, "user_capsule", {schema.USER_ID: list(user_ids)})


def assert_scores_alike(repository: Repository, wanted: Exported, user_ids: Sequence[str]) -> None:
    """Check that what is online of users and items scores as the server does.

    Args:
        user_ids: the first of those who were exported.
    """
    items = _online(repository, "item_vector", {schema.ITEM_ID: wanted.item_ids})
    capsules = of_capsules(repository, user_ids)
    found_BI = scores(pa.table(capsules), pa.table(items), wanted.about)
    wanted_BI = wanted.score_BI[: len(user_ids)]
    np.testing.assert_allclose(found_BI, wanted_BI, rtol=0, atol=1e-5 * np.abs(wanted_BI).max())


def _online(repository: Repository, view: str, keys: dict[str, list[str]]) -> dict[str, list[Any]]:
    store = repository.store()
    names = [f"{view}:{field.name}" for field in store.get_feature_view(view).features]
    found: dict[str, list[Any]] = store.get_online_features(names, keys).to_dict()
    return found
