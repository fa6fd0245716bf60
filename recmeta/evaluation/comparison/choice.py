"""The value of choosing a learner for each user, compared with the best single learner and with the
best possible choice.

The oracle gives every task the member with the least loss on its query, which no choice made in
advance can do; the gap between the best single member and the oracle is the most that a choice can
gain (virtual best solver: Bischl et al., ASlib, Artificial Intelligence 2016, section 4).
"""

import dataclasses
import math
from typing import Any

import numpy as np

from recmeta.evaluation.comparison.bootstrap import Interval, paired_difference
from recmeta.metalearn import members
from recmeta.metalearn.algorithms.combined.selector import CHOICE
from recmeta.metalearn.model import Model
from recmeta.metalearn.outer_loop.trainer import TrainingConfig, task_losses
from recmeta.metalearn.scorer import Scorer
from recmeta.tasks.task_set import Tasks

USERS_AT_ONCE = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceReport:
    """Mean losses over tasks: absolute errors in units of the value for ratings, 1 - nDCG@10 for
    implicit feedback."""

    members: dict[str, float]
    """The loss of each member alone."""
    shares: dict[str, float]
    """The mean weight of each member in the choice."""
    chosen: float
    """The loss of the selector."""
    best_member: str
    """The member with the least loss on these tasks, which favours it slightly."""
    oracle: float
    """The loss of the best member for each task, chosen in hindsight."""
    chosen_less_best: Interval
    """The selector's loss minus that of the best member, paired by task."""
    oracle_less_best: Interval
    """The oracle's loss minus that of the best member: the most that a choice could gain."""
    oracle_less_chosen: Interval
    """The oracle's loss minus the selector's: what the choice does not gain."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report, JSON-ready. The bounds of an interval of one task are None."""
        plain = dataclasses.asdict(self)
        for value in plain.values():
            if isinstance(value, dict):
                value.update({n: v if math.isfinite(v) else None for n, v in value.items()})
        return plain


def judge_choice(model: Model, tasks: Tasks, seed: int = 0) -> ChoiceReport:
    """Return the comparison of a selector's choice on at least one task.

    Args:
        seed: the seed of the bootstrap.
    """
    names, config = _names(model), TrainingConfig()
    chosen_U = task_losses(model, model.params, tasks, config).numpy()
    parts = [members.member(model, number) for number in range(len(names))]
    losses_KU = np.stack([task_losses(part, part.params, tasks, config).numpy() for part in parts])
    scorer = Scorer.of(model)
    weights = [scorer.adapt(some)[CHOICE].cpu().numpy() for some in tasks.batches(USERS_AT_ONCE)]
    shares_K = np.concatenate(weights).mean(0)
    best = int(losses_KU.mean(1).argmin())
    oracle_U = losses_KU.min(0)
    generator = np.random.default_rng(seed)
    return ChoiceReport(
        members=dict(zip(names, losses_KU.mean(1).tolist(), strict=True)),
        shares=dict(zip(names, shares_K.tolist(), strict=True)),
        chosen=float(chosen_U.mean()),
        best_member=names[best],
        oracle=float(oracle_U.mean()),
        chosen_less_best=paired_difference(chosen_U, losses_KU[best], generator),
        oracle_less_best=paired_difference(oracle_U, losses_KU[best], generator),
        oracle_less_chosen=paired_difference(oracle_U, chosen_U, generator),
    )


def _names(model: Model) -> list[str]:
    """Return the names of the members' algorithms, numbered if an algorithm occurs more than
    once."""
    found = [
        members.member_config(model, number).algorithm
        for number in range(members.num_members(model))
    ]
    return [
        name if found.count(name) == 1 else f"{name}-{number + 1}"
        for number, name in enumerate(found)
    ]
