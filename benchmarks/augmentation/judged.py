"""A learner with generated users beside the same without, on warm users whom neither has seen.

The warm users are cut into folds. Each fold is judged by models that were trained on the others, of
which one stops their epochs. More users also make more outer steps, so that a third model is
trained with as many users more who are real ones with the rare profiles, again.

Legend: U users.
"""

import dataclasses
from typing import Any

import numpy as np
import torch

from benchmarks.augmentation.nearness import Nearness, measured
from benchmarks.command import Found
from recmeta import manifest as manifests
from recmeta.errors import UserError
from recmeta.evaluation.certificate import attribute_of
from recmeta.evaluation.comparison.bootstrap import Interval, mean_intervals
from recmeta.metalearn.outer_loop.trainer import task_losses
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
    return _as_found(config.model.algorithm, augment, folds)


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


def _as_found(learner: str, augment: AugmentConfig, folds: list[Judged]) -> Found:
    is_rare_U = np.concatenate([f.is_rare_U for f in folds])
    rows, data = [], []
    for whom, chosen_U in (("rare", is_rare_U), ("other", ~is_rare_U)):
        for k in SHOTS if chosen_U.any() else ():
            error_of = {
                name: np.concatenate([f.errors[name][k] for f in folds])[chosen_U]
                for name in (ALONE, REPEATED, GENERATED)
            }
            found = {
                f"{name} less {other}": _difference(error_of[name] - error_of[other])
                for name, other in PAIRS
            }
            alone = float(error_of[ALONE].mean())
            data.append(
                {"users": whom, "num_users": int(chosen_U.sum()), "k": k, ALONE: alone}
                | {name: dataclasses.asdict(one) for name, one in found.items()}
            )
            shown = [_shown(one) for one in found.values()]
            rows.append([whom, str(int(chosen_U.sum())), str(k), f"{alone:.4f}", *shown])
    nearness = Nearness.joined([f.nearness for f in folds])
    pairs = [f"{name} less {other}" for name, other in PAIRS]
    header = ["profile", "users", "k", f"MAE, {ALONE}", *pairs]
    text = "\n\n".join(
        [
            f"`{learner}` with users generated for values of `{augment.attribute}` that fewer than "
            f"{augment.least_users} training users have.",
            table(header, rows),
            nearness.to_text(),
        ]
    )
    found_of: dict[str, Any] = {"learner": learner, "changes": data, **nearness.to_dict()}
    return found_of, text


def _difference(difference_U: Float64Array) -> Interval:
    (found,) = mean_intervals(difference_U[:, None], np.random.default_rng(0))
    return found


def _shown(found: Interval) -> str:
    return f"{found.mean:+.4f} [{found.ci_low:+.4f}, {found.ci_high:+.4f}]"
