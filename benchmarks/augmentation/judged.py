"""A learner with generated users beside the same without, on warm users whom neither has seen.

The warm users are cut into folds. Each fold is judged by models that were trained on the others, of
which one stops their epochs. More users also make more outer steps, so that a third model is
trained with as many users more who are real ones with the rare profiles, again.

Legend: U users.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.summary import plain
from benchmarks.augmentation.nearness import (
    Nearness,
    mean_of,
    measured,
    nearness_table,
    nearness_text,
)
from benchmarks.command import Found
from recmeta import manifest as manifests
from recmeta.errors import UserError
from recmeta.evaluation.certificate import attribute_of
from recmeta.metalearn.outer_loop.trainer import task_losses
from recmeta.records.provenance import library_versions
from recmeta.reporting.markdown import table
from recmeta.steps.data import build_tasks
from recmeta.tasks.arrays import BoolArray, Float64Array, IntArray
from recmeta.tasks.task_set import Tasks, TaskSet
from recmeta.training.augmentation.config import AugmentConfig
from recmeta.training.augmentation.generated import (
    drawn_profiles,
    missing,
    trained_generator,
)
from recmeta.training.config import MetaTrainConfig
from recmeta.training.fit import fit
from recmeta.training.recipes import training_of
from recmeta.training.start import at_start
from recmeta.workspace import Folder, MemoryFolder, Workspace

SHOTS = (0, 5, 20)
ALONE, REPEATED, GENERATED = "alone", "repeated", "generated"
"""Models: of the training users alone, with real rare ones again, and with generated ones."""
PAIRS = ((REPEATED, ALONE), (GENERATED, ALONE), (GENERATED, REPEATED))
CPU = torch.device("cpu")


@dataclasses.dataclass(frozen=True)
class Judged:
    """What one fold says."""

    counts: dict[str, int]
    """Users to learn from, rare values of the attribute, and generated users."""
    is_rare_U: BoolArray
    errors: dict[str, dict[int, Float64Array]]
    """Mean absolute error of each user by model and known rows."""
    nearness: Nearness


def run(
    workspace: str,
    augment: AugmentConfig,
    learner: str,
    *,
    num_folds: int,
    num_judged: int,
    seed: int,
) -> Found:
    """Judge on the newest tasks of a workspace: see `judge`."""
    place = Workspace(workspace)
    task_set = TaskSet(place / manifests.latest(place, build_tasks.STEP).outputs.tasks)
    config = dataclasses.replace(training_of(learner), seed=seed)
    return judge(task_set, augment, config, num_folds=num_folds, num_judged=num_judged)


def judge(
    task_set: TaskSet,
    augment: AugmentConfig,
    config: MetaTrainConfig,
    *,
    num_folds: int,
    num_judged: int,
) -> Found:
    """Return the errors' differences with their intervals, and distances.

    Args:
        config: how the learner is trained without generated users.
        num_folds: at least 3.
        num_judged: how many of them are judged, at least 1.

    Raises:
        UserError: where no value is rare, feedback is implicit, or there are too few folds or
            users.
    """
    if num_folds < 3:
        raise UserError(
            f"--folds is {num_folds}; it must be at least 3: one is judged, one stops the epochs, "
            "and the others are learned from."
        )
    if not 1 <= num_judged <= num_folds:
        raise UserError(f"--judged is {num_judged}; it must be from 1 to --folds, {num_folds}.")
    warm = Tasks.joined([task_set.tasks("train"), task_set.tasks("dev")])
    if len(warm) < num_folds:
        raise UserError(f"there are {len(warm)} warm users for {num_folds} --folds: ask for fewer.")
    fold_U = np.random.default_rng(config.seed).permutation(len(warm)) % num_folds
    config = dataclasses.replace(config, lists="popularity")
    folds = [_fold(config, augment, task_set, warm, fold_U, fold) for fold in range(num_judged)]
    return _as_found(config.model.algorithm, augment, folds, num_folds)


def _fold(
    config: MetaTrainConfig,
    augment: AugmentConfig,
    task_set: TaskSet,
    warm: Tasks,
    fold_U: IntArray,
    fold: int,
) -> Judged:
    num_folds = int(fold_U.max()) + 1
    judged = warm.take(np.flatnonzero(fold_U == fold))
    stops = fold_U == (fold + 1) % num_folds
    train = warm.take(np.flatnonzero((fold_U != fold) & ~stops))
    rare = missing(augment, train)
    if not rare:
        raise UserError(
            f"every value of {augment.attribute} has {augment.least_users} training users or more: "
            "ask for more with --least-users, or for fewer --folds."
        )
    cut = task_set.with_tasks({"train": train, "dev": warm.take(np.flatnonzero(stops))})
    profile_B = drawn_profiles(augment, train, np.random.default_rng(config.seed))
    again = cut.with_tasks({"train": Tasks.joined([train, train.take(profile_B)])})
    folder = MemoryFolder()
    errors = {
        ALONE: _errors(config, cut, judged, MemoryFolder()),
        REPEATED: _errors(config, again, judged, MemoryFolder()),
        GENERATED: _errors(dataclasses.replace(config, augment=augment), cut, judged, folder),
    }
    values = attribute_of(judged, augment.attribute) or []
    generator = trained_generator(cut, CPU, folder, config.seed)  # out of its checkpoint
    return Judged(
        counts={
            "training_users": len(train),
            "rare_values": len(rare),
            "generated_users": len(profile_B),
        },
        is_rare_U=np.array([value in rare for value in values]),
        errors=errors,
        nearness=measured(generator, train, judged, config.seed),
    )


def _errors(
    config: MetaTrainConfig, task_set: TaskSet, judged: Tasks, folder: Folder
) -> dict[int, Float64Array]:
    """Return the users' mean absolute errors by known rows."""
    begun = at_start(config, task_set, CPU)
    fit(config, begun, task_set, folder, lambda epoch: None)
    model = begun.model
    return {
        k: task_losses(model, model.params, judged.with_shots(k), config.training).numpy()
        for k in SHOTS
    }


def _as_found(learner: str, augment: AugmentConfig, folds: list[Judged], num_folds: int) -> Found:
    """Return what the folds say together, JSON-ready and as Markdown."""
    is_rare_U = np.concatenate([f.is_rare_U for f in folds])
    changes: list[dict[str, Any]] = []
    for whom, chosen_U in (("rare", is_rare_U), ("other", ~is_rare_U)):
        for k in SHOTS if chosen_U.any() else ():
            error_of = {
                name: np.concatenate([f.errors[name][k] for f in folds])[chosen_U]
                for name in (ALONE, REPEATED, GENERATED)
            }
            found = {
                f"{name} less {other}": plain(mean_of(error_of[name] - error_of[other]))
                for name, other in PAIRS
            }
            changes.append({"users": whom, "k": k, ALONE: plain(mean_of(error_of[ALONE])), **found})
    data: dict[str, Any] = {
        "title": "Generated users of rare profiles",
        "learner": learner,
        **dataclasses.asdict(augment),
        "num_folds": num_folds,
        "libraries": library_versions(),
        "folds": [f.counts for f in folds],
        "changes": changes,
        "nearness": Nearness.joined([f.nearness for f in folds]).to_dict(),
    }
    return data, report(data)


def report(data: Mapping[str, Any]) -> str:
    """Return the result as Markdown."""
    return "\n\n".join(
        [
            f"`{data['learner']}` with users generated for values of `{data['attribute']}` that "
            f"fewer than {data['least_users']} training users have; {len(data['folds'])} of "
            f"{data['num_folds']} folds.",
            changes_table(data["changes"]),
            nearness_table(data["nearness"]),
            nearness_text(data["nearness"]),
        ]
    )


def changes_table(changes: Sequence[Mapping[str, Any]]) -> str:
    """Return the errors of the model of the training users alone, and the others' differences,
    bold where the interval leaves out zero."""
    pairs = [f"{name} less {other}" for name, other in PAIRS]
    rows = [
        [
            row["users"],
            f"{row[ALONE]['num_users']}",
            f"{row['k']}",
            f"{row[ALONE]['mean']:.4f}",
            *(_shown(row[pair]) for pair in pairs),
        ]
        for row in changes
    ]
    return table(["profile", "users", "k", f"MAE, {ALONE}", *pairs], rows)


def _shown(found: Mapping[str, float]) -> str:
    text = f"{found['mean']:+.4f} [{found['ci_low']:+.4f}, {found['ci_high']:+.4f}]"
    return text if found["ci_low"] <= 0 <= found["ci_high"] else f"**{text}**"
