"""The baselines by name, and all that a model is put beside, tuned and fitted."""

import dataclasses
from collections.abc import Sequence

from recmeta.errors import UserError
from recmeta.evaluation.baseline import Baseline, BaselineSearch, OnTrial, unrecorded
from recmeta.evaluation.predictor import Predictor
from recmeta.plugins import Registry
from recmeta.tasks.item_history import ItemHistory
from recmeta.tasks.task_set import Items, Objective, Tasks, TaskSetSpec

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
    ),
    "implicit": ("popularity", "ease"),
}
"""What the gate puts beside a model where nothing else is asked for, the weakest first. With every
value 1 there is nothing to average."""


def baseline(name: str) -> Baseline:
    """Return the baseline of a name, or at a path `package.module:Object`.

    Raises:
        UserError: for one that leads to none.
    """
    found = BASELINES[name]
    if not isinstance(found, Baseline):
        raise UserError(
            f"the baseline {name!r} is {found!r}; it must be a "
            "recmeta.evaluation.baseline.Baseline."
        )
    return found


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
) -> dict[str, Predictor]:
    """Return baselines for a task set, tuned and fitted, by name.

    Args:
        train: meta-training tasks; their support and query rows are the training data. Of implicit
            feedback those of `dev` are, too, once these have chosen, as for the learners of such
            feedback.
        dev: development tasks, on whose queries hyperparameters are chosen.
        seed: of whatever is drawn.
        on_trial: told of each candidate that was tried, baseline by baseline.
        names: which, as in `BASELINES`; None: those of `BESIDE_EVERY_MODEL`.
        items: the catalogue, for baselines that read its attributes.
        history: every event that counts, for baselines that look back from a user's cut time.

    Raises:
        UserError: for an unknown name, a baseline that does not suit the feedback, or where the
            meta-training tasks have no rows.
    """
    search = BaselineSearch.of(spec, train, dev, seed, on_trial)
    everybody = Tasks.joined([train, dev]) if spec.objective == "implicit" else None
    search = dataclasses.replace(search, everybody=everybody, items=items, history=history)
    chosen = BESIDE_EVERY_MODEL[spec.objective] if names is None else names
    fitted: dict[str, Predictor] = {}
    for one in map(baseline, chosen):
        if one.name in fitted:
            raise UserError(f"there are two baselines {one.name!r}: name each once.")
        fitted[one.name] = search.fitted(one)
    return fitted
