"""The model that answers, and everything else that answering needs."""

import dataclasses
import datetime
import logging
import threading
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from recmeta.endpoint.answers.history import QuestionPlan, evaluation_of, interview_of
from recmeta.endpoint.answers.restrictions import ItemAttributes
from recmeta.endpoint.answers.trial import NICENESS, ChampionRefused, try_out
from recmeta.endpoint.config import MAX_TOP_K
from recmeta.errors import Broken, UserError
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.registry.models import versions
from recmeta.serving.intake import GivenUser, Intake
from recmeta.serving.lists import ListMaker
from recmeta.serving.ranking import ScoringConfig, adapt_users
from recmeta.serving.rules import MOST_NAMED, ItemFacts, remark_on_unmatched, unmatched
from recmeta.steps.parts import catalogue
from recmeta.steps.parts.item_facts import item_facts
from recmeta.tasks.arrays import Float32Array
from recmeta.workspace import Workspace

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServedChampion:
    """One version of the model, ready for many requests. It never changes: a new version is a new
    object."""

    version: str
    scorer: Scorer
    intake: Intake
    lists: ListMaker
    """Makes lists by the business rules, without reasons, which are up to each request."""
    item_ids: list[str]
    """By item number."""
    titles: list[str | None]
    """By item number."""
    names: pa.Array
    """(I,) the texts that a search reads, in lower case."""
    popularity: Float32Array
    """(I,) number of users who had interacted with each item when the model was trained."""
    attributes: ItemAttributes
    """The attributes by which requests filter."""
    evaluation: dict[str, Any] | None = None
    """The content of evaluation.json, if the workspace has it."""
    interview: QuestionPlan | None = None
    """The questions to ask, if `recmeta evidence` has determined them."""

    @property
    def model(self) -> Model:
        """The model that answers."""
        return self.scorer.model

    @classmethod
    def of(
        cls,
        version: str,
        model: Model,
        evaluation: dict[str, Any] | None = None,
        interview: QuestionPlan | None = None,
        scoring: ScoringConfig | None = None,
        facts: ItemFacts | None = None,
    ) -> "ServedChampion":
        """Return a model that is ready: everything that requests share is computed beforehand."""
        scorer, items = Scorer.of(model).ready(), model.catalogue.items
        config = dataclasses.replace(scoring or ScoringConfig(), top_k=MAX_TOP_K, reasons=False)
        titles = items.titles()
        made = cls(
            item_ids=items.item_id.to_pylist(),
            version=version,
            scorer=scorer,
            intake=Intake(model),
            lists=ListMaker(scorer, config, facts),
            titles=[None] * model.catalogue.num_items if titles is None else titles.to_pylist(),
            names=pc.utf8_lower(items.names()),
            popularity=model.catalogue.statistics.num_users[-1],
            attributes=ItemAttributes(items),
            evaluation=evaluation,
            interview=interview,
        )
        nobody = made.intake.tasks([GivenUser()])
        made.lists.make(adapt_users(scorer, nobody), nobody)
        return made


class ChampionSource(Protocol):
    """Where champions come from."""

    def newest(self) -> str | None:
        """Return which version is to answer; None if there is none yet."""
        ...

    def try_out(self, version: str, *, seconds: float, stopping: threading.Event) -> None:
        """Find out in another process whether that version answers within a number of seconds; give
        up when the event is set.

        Raises:
            ChampionRefused: if it does not.
        """
        ...

    def load(self, version: str) -> ServedChampion:
        """Return that version, ready."""
        ...


class RegistrySource:
    """The champion of a workspace's registry."""

    def __init__(self, workspace: Workspace, scoring: ScoringConfig | None = None) -> None:
        """
        Args:
            scoring: how lists are made; files of its rules are read with each new champion. If
                None, the defaults.
        """
        self.workspace = workspace
        self.scoring = scoring or ScoringConfig()

    def newest(self) -> str | None:
        """Return the number of the version with the alias champion."""
        found = versions.champion(self.workspace)
        return None if found is None else found.version

    def first(self, *, seconds: float) -> ServedChampion | None:
        """Return the champion to begin with, tried out like any other; None if there is none yet.

        Args:
            seconds: how long its trial may take.

        Raises:
            UserError: if it is broken or fails its trial, or a rule does not fit it, which would
                not improve while serving.
            mlflow.exceptions.MlflowException: if the registry cannot be read.
        """
        newest = self.newest()
        if newest is None:
            return None
        try:  # nobody is being answered yet whom the trial could slow down
            self._try_out(newest, seconds, threading.Event(), niceness=0)
        except ChampionRefused as error:
            raise UserError(
                f"the champion cannot be served: {error}. Go back to the previous one with "
                "`recmeta rollback`, or promote another with `recmeta run`."
            ) from error
        return self.load(newest)

    def try_out(self, version: str, *, seconds: float, stopping: threading.Event) -> None:
        """Check the files of that version, then let a separate process load it and answer a
        question.

        Raises:
            ChampionRefused: if it does not come to an answer.
            UserError: if its files are missing or changed, or a rule does not fit it.
        """
        self._try_out(version, seconds, stopping, niceness=NICENESS)

    def _try_out(
        self, version: str, seconds: float, stopping: threading.Event, *, niceness: int
    ) -> None:
        folder = versions.model_folder(self.workspace, versions.get(self.workspace, version))
        lost = folder.losses(full=True)
        if lost:
            raise Broken(f"{'; '.join(lost)}. {folder.remedy}")
        try_out(
            self.workspace.location,
            version,
            self.scoring,
            seconds=seconds,
            stopping=stopping,
            niceness=niceness,
        )

    def load(self, version: str) -> ServedChampion:
        """Return that version, over the current items, with its evaluation and its questions."""
        found = versions.get(self.workspace, version)
        model = catalogue.model_of_now(self.workspace, found)
        facts = item_facts(self.scoring.rules, self.workspace, datetime.datetime.now(datetime.UTC))
        for rule, ids in (("deny", facts.denied), ("allow", facts.allowed or ())):
            missing = unmatched(model.catalogue.items, ids)
            if missing:
                log.warning(remark_on_unmatched(rule, len(missing), missing[:MOST_NAMED]))
        return ServedChampion.of(
            version,
            model,
            evaluation_of(self.workspace, found),
            interview_of(self.workspace, found, model),
            self.scoring,
            facts,
        )
