"""a workspace ──▶ what is missing in it or differs from what was written, and how to restore it.

Nothing is changed except the record of which files were read.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from recmeta import schema
from recmeta.errors import Broken
from recmeta.logs import whole
from recmeta.manifest import LATEST, broken, find, latest_key, losses
from recmeta.records.step_definition import Step
from recmeta.registry.models import versions
from recmeta.steps.data import build_tasks, ingest, materialise_features
from recmeta.steps.learning import evaluate, meta_train, register
from recmeta.steps.serving import adapt, evidence, score, shard_new_users
from recmeta.steps.upkeep import drift
from recmeta.workspace import Workspace

STEPS: tuple[Step[Any], ...] = (
    ingest.STEP,
    materialise_features.STEP,
    build_tasks.STEP,
    meta_train.STEP,
    evaluate.STEP,
    evidence.STEP,
    evidence.SIMULATION,
    shard_new_users.STEP,
    adapt.STEP,
    score.STEP,
    drift.STEP,
)
"""Steps with files of their own; register's are the versions of the model."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """Something that is missing or differs from what was written."""

    what: str
    """A sentence without its full stop."""
    remedy: str
    """One with it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verified:
    """What was checked, and which of it is lost."""

    num_manifests: int
    num_tables: int
    num_versions: int
    losses: tuple[Loss, ...]


def run(workspace: Workspace, *, full: bool, has_models: bool = True) -> Verified:
    """Check the outputs of every step.

    Args:
        full: read every file of every step that was ever done here, and of every table. Otherwise
            only the outputs of the last runs are checked, and a file is read only if it has been
            touched since.
        has_models: whether to check the versions of the model in MLflow, too.
    """
    found: list[Loss] = []
    manifests = [(step, key) for step in STEPS for key in _keys(workspace, step, full=full)]
    tables = [t for t in schema.TABLES if whole.is_made(workspace, t)]
    tables = tables if full else []
    numbers = [v.version for v in versions.versions(workspace)] if has_models else []
    for table in tables:
        found += _of_table(workspace, table)
    for step in (*STEPS, register.STEP):
        again = f"`recmeta run`, or whatever did the step {step}, makes it again."
        found += [Loss(what=what, remedy=again) for what in broken(workspace, step)]
    for step, key in manifests:
        found += _of_step(workspace, step, key, full=full)
    for number in numbers:
        mend = f"Register version {number} again: `recmeta run --redo register`."
        lost = versions.losses(workspace, number, full=full)
        found += [Loss(what=what, remedy=mend) for what in lost]
    return Verified(
        num_manifests=len(manifests),
        num_tables=len(tables),
        num_versions=len(numbers),
        losses=tuple(dict.fromkeys(found)),
    )


def _keys(workspace: Workspace, step: str, *, full: bool) -> list[str]:
    if not full:
        return [key for key in (latest_key(workspace, step),) if key is not None]
    names = (workspace / "manifests" / step).names()
    return [name.removesuffix(".json") for name in names if name != LATEST]


def _of_step(workspace: Workspace, step: Step[Any], key: str, *, full: bool) -> Iterator[Loss]:
    manifest = find(workspace, step, key)
    if manifest is None:  # which `broken` tells
        return
    again = f"`recmeta run`, or whatever did the step {step}, makes it again."
    try:
        for what in losses(workspace, step, manifest, full=full):
            yield Loss(what=f"{what} (step {step}, {key})", remedy=again)
    except Broken as error:
        if full:  # otherwise the check of the tables reports it
            yield _of_error(error)


def _of_table(workspace: Workspace, table: schema.Table) -> Iterator[Loss]:
    try:
        whole.check(workspace, table, full=True)
    except Broken as error:
        yield _of_error(error)


def _of_error(error: Broken) -> Loss:
    what, _, remedy = str(error).partition(". ")
    return Loss(what=what, remedy=remedy)
