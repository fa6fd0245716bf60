"""The compared policies, which decide what to show, one visit at a time.

Legend: B users, m candidates, k places.
"""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from recmeta.metalearn.heads.list_head import ListHead
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.exploration.config import ExploreConfig
from recmeta.serving.exploration.explorer import Explorer
from recmeta.serving.lists import deviations
from recmeta.serving.ranking import adapt_users
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Tasks, TaskSet
from recmeta.testing.synthetic import SyntheticLog
from recmeta.testing.tasks import write_task_set
from recmeta.training.fit import fit_whole
from recmeta.training.recipes import training_of
from recmeta.training.start import at_start
from recmeta.workspace import Folder

ALWAYS = 10**9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slates:
    """The lists that a policy shows to B users."""

    item_Bk: IntArray
    propensity_Bk: Float64Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """A way to fill a list from candidates, given the known rows of a user."""

    name: str
    explore: ExploreConfig = ExploreConfig(share=0.0, by="uniform")
    by_popularity: bool = False
    """Whether the order is that of popularity, whatever is known of the user."""

    def show(
        self,
        scorer: Scorer,
        tasks: Tasks,
        pool_Bm: IntArray,
        length: int,
        names: Sequence[str],
    ) -> Slates:
        """Return the slates of users.

        Args:
            scorer: the scorer, whose list head orders items by their predicted values.
            tasks: the tasks, whose support has the known rows of the users.
            pool_Bm: the items that may be shown, padded with -1.
        """
        users = adapt_users(scorer, tasks)
        rows = scorer.rows_of_now(pool_Bm)
        predicted = scorer.predict(users.state, rows)
        settled = scorer.settled(users.state)
        worth_Bm = scorer.order(settled, predicted.ranked_by_BR, rows).cpu().numpy()
        if self.by_popularity:
            worth_Bm = scorer.model.catalogue.statistics.num_users[-1][np.maximum(pool_Bm, 0)]
        worth_Bm = np.where(pool_Bm >= 0, worth_Bm, -np.inf)
        order_Bm = np.argsort(-worth_Bm, axis=1, kind="stable")
        candidate_Bm = np.take_along_axis(pool_Bm, order_Bm, 1)
        found = Explorer(scorer, self.explore).lists(
            users,
            tasks,
            candidate_Bm,
            np.take_along_axis(worth_Bm, order_Bm, 1).astype(np.float32),
            deviations(scorer, users, tasks, candidate_Bm),
            length,
            names,
        )
        place_Bk = np.maximum(found.place_Bk, 0)
        item_Bk = np.where(found.place_Bk >= 0, np.take_along_axis(candidate_Bm, place_Bk, 1), -1)
        return Slates(item_Bk=item_Bk, propensity_Bk=found.propensity_Bk)


def compared(seed: int, draws: int = 1) -> tuple[Policy, ...]:
    """Return the policies that are compared.

    Args:
        draws: of lists, to find propensities; without these one is enough.
    """

    def exploring(by: str, share: float) -> ExploreConfig:
        return ExploreConfig(
            by=by,  # type: ignore[arg-type]
            share=share,
            most_interactions=ALWAYS,
            candidates=ALWAYS,
            draws=draws,
            seed=seed,
        )

    return (
        Policy(name="popularity", by_popularity=True),
        Policy(name="greedy"),
        Policy(name="ε-greedy, ε = 0.2", explore=exploring("uniform", 0.2)),
        Policy(name="Thompson, share 0.2", explore=exploring("thompson", 0.2)),
        Policy(name="Thompson, share 1", explore=exploring("thompson", 1.0)),
    )


def by_value(model: Model) -> Scorer:
    """Return a model's scorer with lists in the order of predicted values."""
    counts = model.catalogue.statistics.num_users[-1]
    head = ListHead.of_popularity(0.0, counts, model.device)
    return dataclasses.replace(Scorer.of(model), lists=head)


def trained(log: SyntheticLog, seed: int) -> tuple[Model, TaskSet]:
    """Return bayesian-linear, trained on a synthetic log by its recipe except for the list head,
    which learns what is taken and not what is liked."""
    folder = Path(tempfile.mkdtemp(prefix="recmeta-exploration-"))
    task_set = write_task_set(log, Folder.at(folder / "tasks"))
    config = dataclasses.replace(training_of("bayesian-linear"), lists="popularity", seed=seed)
    begun = at_start(config, task_set, torch.device("cpu"))
    found = fit_whole(config, begun, task_set, Folder.at(folder / "model"), lambda epoch: None)
    return found.model, task_set
