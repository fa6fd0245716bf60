"""The baselines by name, and the tuned and fitted baselines that a model is compared with."""

import dataclasses
from collections.abc import Sequence

from recmeta.errors import UserError
from recmeta.evaluation.baseline import (
    INSTALL,
    Baseline,
    BaselineSearch,
    OnTrial,
    is_installed,
    unrecorded,
)
from recmeta.evaluation.predictor import Predictor
from recmeta.plugins import Registry
from recmeta.tasks.item_files import Items
from recmeta.tasks.item_history import ItemHistory
from recmeta.tasks.task_set import Objective, Tasks, TaskSetSpec

BASELINES: Registry[Baseline] = Registry(
    "baseline", package="recmeta.evaluation.baselines", attribute="BASELINE"
)
"""Every baseline. A file in the folder names its own `BASELINE`."""

BESIDE_EVERY_MODEL: dict[Objective, tuple[str, ...]] = {
    "rating": (
        "global-mean",
        "user-median",
        "item-mean",
        "item-mean-user-bias",
        "popularity",
        "mf-fold-in",
        "item-knn",
        "user-knn",
        "ease",
        "ials",
        "boosted-trees",
    ),
    "implicit": ("popularity", "ease", "item-knn", "user-knn", "ials"),
}
"""The baselines that the gate compares a model with by default; those whose library is absent are
left out. Without ratings there is nothing to average."""


def baseline(name: str) -> Baseline:
    """Return the baseline of a name, or at a path `package.module:Object`.

    Raises:
        UserError: if the name leads to no baseline.
    """
    found = BASELINES[name]
    if not isinstance(found, Baseline):
        raise UserError(
            f"the baseline {name!r} is {found!r}; it must be a "
            "recmeta.evaluation.baseline.Baseline."
        )
    return found


def usual_baselines(objective: Objective) -> tuple[list[str], list[str]]:
    """Return the default baselines for the feedback that can be fitted here, and those that cannot,
    because their library is not installed."""
    names = BESIDE_EVERY_MODEL[objective]
    return (
        [name for name in names if is_installed(baseline(name))],
        [name for name in names if not is_installed(baseline(name))],
    )


def what_was_left_out(names: Sequence[str]) -> str:
    """Return the sentence that says that these baselines were left out, because their library is
    not installed."""
    named = ", ".join(f"{name} (library {baseline(name).library})" for name in names)
    one = len(names) == 1
    return (
        f"The {'baseline' if one else 'baselines'} {named} {'was' if one else 'were'} left out: "
        f"{INSTALL} installs what {'it needs' if one else 'they need'}."
    )


def fit_baselines(
    spec: TaskSetSpec,
    train: Tasks,
    dev: Tasks,
    seed: int = 0,
    on_trial: OnTrial = unrecorded,
    *,
    names: Sequence[str] | None = None,
    items: Items | None = None,
    history: ItemHistory | None = None,
    relevant_from: float | None = None,
    everybody: Tasks | None = None,
) -> dict[str, Predictor]:
    """Return baselines for a task set, tuned and fitted, by name.

    Args:
        train: meta-training tasks; their support and query rows are the training data. For implicit
            feedback, they are fitted again to `everybody` once `dev` has chosen, as the learners
            are.
        dev: development tasks, on whose queries hyperparameters are chosen.
        seed: the seed of all random numbers.
        on_trial: called with each candidate that was tried, baseline by baseline.
        names: the baselines, as in `BASELINES`, or None for those of `usual_baselines`.
        items: the catalogue, for baselines that read its attributes. If None, only those of them
            that are named are fitted.
        history: every event that counts, for baselines that look back from a user's cut time.
        relevant_from: the smallest rating of an item that is relevant in lists, or None for 60 % up
            the value range.
        everybody: see `train`; None stands for the tasks of `train` and `dev`.

    Raises:
        UserError: for an unknown name, for a baseline that does not suit the feedback, or if the
            meta-training tasks have no rows.
    """
    search = BaselineSearch.of(spec, train, dev, seed, on_trial)
    if spec.objective == "rating":
        everybody = None
    elif everybody is None:
        everybody = Tasks.joined([train, dev])
    search = dataclasses.replace(
        search,
        everybody=everybody,
        items=items,
        history=history,
        relevant_from=relevant_from,
    )
    if names is None:
        usual, _ = usual_baselines(spec.objective)
        names = [n for n in usual if items is not None or not baseline(n).reads_items]
    fitted: dict[str, Predictor] = {}
    for one in map(baseline, names):
        if one.name in fitted:
            raise UserError(f"there are two baselines {one.name!r}: name each once.")
        fitted[one.name] = search.fitted(one)
    return fitted
