"""The model that answers, and all that answering needs beside it."""

import dataclasses
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from recmeta.endpoint.config import MAX_TOP_K
from recmeta.endpoint.history import Interview, evaluation_of, interview_of
from recmeta.metalearn.model import Model
from recmeta.registry import versions
from recmeta.serving.intake import GivenUser, Intake
from recmeta.serving.ranking import Ranker, ScoringConfig, adapt_users
from recmeta.steps import catalogue
from recmeta.workspace import Workspace


@dataclasses.dataclass(frozen=True, kw_only=True)
class Champion:
    """One version of the model, ready for many requests. Never changes: a new version is a new
    one."""

    version: str
    model: Model
    intake: Intake
    ranker: Ranker
    """Of lists as long as may be asked for; a shorter list is their beginning."""
    item_ids: list[str]
    """By item number."""
    titles: list[str | None]
    """By item number."""
    names: pa.Array
    """(I,) what a search looks through, in lower case."""
    popularity: npt.NDArray[np.float32]
    """(I,) users who had met each item when the model was trained."""
    evaluation: dict[str, Any] | None = None
    """evaluation.json, where the workspace has it."""
    interview: Interview | None = None
    """What to ask, where `recmeta evidence` has found it out."""

    @classmethod
    def of(
        cls,
        version: str,
        model: Model,
        evaluation: dict[str, Any] | None = None,
        interview: Interview | None = None,
    ) -> "Champion":
        """Return a model made ready: what every request shares is computed before the first."""
        items = model.catalogue.items
        titles = items.titles()
        made = cls(
            item_ids=items.item_id.to_pylist(),
            version=version,
            model=model,
            intake=Intake(model),
            ranker=Ranker(model, ScoringConfig(top_k=MAX_TOP_K)),
            titles=[None] * model.catalogue.num_items if titles is None else titles.to_pylist(),
            names=pc.utf8_lower(items.names()),
            popularity=model.catalogue.statistics.num_users[-1],
            evaluation=evaluation,
            interview=interview,
        )
        made.ranker.rank(adapt_users(model, made.intake.tasks([GivenUser()])))
        return made


class ChampionSource(Protocol):
    """Where champions come from."""

    def newest(self) -> str | None:
        """Return which version is to answer; None where there is none yet."""
        ...

    def load(self, version: str) -> Champion:
        """Return that version, ready."""
        ...


class RegistrySource:
    """The champion of a workspace's registry."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def newest(self) -> str | None:
        """Return the number of the version with the alias champion."""
        found = versions.champion(self.workspace)
        return None if found is None else found.version

    def load(self, version: str) -> Champion:
        """Return that version, over the items of now, with its evaluation and its questions."""
        found = versions.get(self.workspace, version)
        folder = versions.model_folder(self.workspace, found)
        trained = Model.load(folder, torch.device("cpu"))
        model, _ = catalogue.with_new_items(trained, self.workspace)
        return Champion.of(
            version,
            model,
            evaluation_of(self.workspace, found),
            interview_of(self.workspace, found, model),
        )
