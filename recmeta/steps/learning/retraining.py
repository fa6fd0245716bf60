"""Whether it is time to meta-train again: not too often, not for too little, and never too late."""

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any

from recmeta.errors import UserError
from recmeta.manifest import Manifest, finished, latest
from recmeta.steps.data import build_tasks
from recmeta.steps.data.build_tasks import BuildTasksOutputs
from recmeta.steps.learning import meta_train
from recmeta.steps.learning.meta_train import MetaTrainOutputs
from recmeta.workspace import Workspace


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetrainingConfig:
    """When a model is trained again."""

    min_days: float = 0.0
    """The fewest days between the end of a training and the next one."""
    min_new_interactions: int = 1
    """The fewest interactions that the tasks must have beyond those of the last training."""
    max_days: float = 7.0
    """After this many days, any new interaction is enough."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_days <= self.max_days:
            raise UserError(
                f"min_days is {self.min_days} and max_days {self.max_days}; they must be growing "
                "numbers of days from 0."
            )
        if self.min_new_interactions < 0:
            raise UserError(
                f"min_new_interactions is {self.min_new_interactions}; it must be at least 0."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Due:
    """Whether to train, and why."""

    due: bool
    reason: str
    """A sentence."""


def is_due(
    workspace: Workspace,
    tasks: Manifest[BuildTasksOutputs],
    config: RetrainingConfig | None = None,
    *,
    now: datetime.datetime | None = None,
) -> Due:
    """Return whether a model should be trained on these tasks.

    If newer tasks exist, no model is trained on older ones: after a backfill of many days, or if
    building is faster than training, only the newest are worth a training.

    Args:
        tasks: the manifest of build-tasks.
        now: the present time, or None for that of the clock.
    """
    config = config or RetrainingConfig()
    newest = latest(workspace, build_tasks.STEP)
    if newest.inputs["interactions"] > tasks.inputs["interactions"]:
        return Due(due=False, reason=f"Newer tasks have been built ({newest.key}); they decide.")
    last = last_training(workspace)
    if last is None:
        return Due(due=True, reason="No model has been trained here yet.")
    days = days_since(last, now)
    seen = meta_train.tasks_of(workspace, last)
    num_new = tasks.counts["interactions"] - (seen.counts["interactions"] if seen else 0)
    past = f"the last training ended {days:.1f} days ago"
    if days < config.min_days:
        return Due(due=False, reason=f"{past}, and min_days is {config.min_days:g}.")
    if num_new >= config.min_new_interactions:
        return Due(
            due=True,
            reason=f"The tasks hold {num_new} interactions more, and {past}.",
        )
    if days >= config.max_days and last.inputs["tasks"] != tasks.key:
        return Due(due=True, reason=f"The tasks have changed, and {past}.")
    return Due(
        due=False,
        reason=(
            f"The tasks hold {num_new} interactions more than at the last training; "
            f"min_new_interactions is {config.min_new_interactions}, and {past}."
        ),
    )


def is_overdue(
    workspace: Workspace,
    findings: Sequence[str],
    *,
    max_days: float,
    now: datetime.datetime | None = None,
) -> bool:
    """Return whether to ask for a model although no tasks are new. Before the first tasks it never
    does: there is nothing to train on, and the first tasks ask for a model themselves.

    Args:
        findings: what has drifted.
        max_days: the most days without a training.
        now: the present time, or None for that of the clock.
    """
    if not finished(workspace, build_tasks.STEP):
        return False
    last = last_training(workspace)
    return bool(findings) or last is None or days_since(last, now) >= max_days


def last_training(workspace: Workspace) -> Manifest[MetaTrainOutputs] | None:
    """Return the manifest of the training that ended last, or None before the first."""
    return next(reversed(finished(workspace, meta_train.STEP)), None)


def days_since(training: Manifest[Any], now: datetime.datetime | None = None) -> float:
    """Return how many days ago a step finished."""
    clock = now or datetime.datetime.now(datetime.UTC)
    passed = clock - datetime.datetime.fromisoformat(training.finished_at)
    return passed / datetime.timedelta(days=1)
