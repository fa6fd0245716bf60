"""How near generated users come to those of whom the generator has learned.

Two questions. Of users with the items and the profile of held-out users, without support: are they
nearer to their nearest training user than the held-out users themselves are? And of a twin, who is
generated with the items and the profile of a real user: is it more like the real one if the
generator has learned of them? A generator that repeats whom it has seen says yes to either.

Legend: U users, T training users, I items, N rows.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.accuracy.summary import plain
from recmeta.evaluation.comparison.bootstrap import Interval, mean_intervals
from recmeta.metalearn.model import Model
from recmeta.reporting.markdown import table
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Ragged, Tasks
from recmeta.training.augmentation.generated import drawn

QUANTILES = (0.0, 0.05, 0.5)
"""Of distances: the least, one user in twenty, the median."""


@dataclasses.dataclass(frozen=True)
class Nearness:
    """Distances by users, 1 less the cosine of two users' ratings, less the items' means."""

    generated_U: Float64Array
    """From users generated for held-out ones to their nearest training user."""
    held_out_U: Float64Array
    """From the held-out users themselves."""
    twin_of_known_U: Float64Array
    """Mean absolute difference of a training user's ratings to a twin's."""
    twin_of_held_out_U: Float64Array
    """The same of the held-out users."""

    @classmethod
    def joined(cls, parts: Sequence["Nearness"]) -> "Nearness":
        """Return what several folds found."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))

    def to_dict(self) -> dict[str, Any]:
        """Return quantiles and means, JSON-ready."""
        return {
            "nearest_of_generated": _quantiles(self.generated_U),
            "nearest_of_held_out": _quantiles(self.held_out_U),
            "nearer_than_the_real_one": float((self.generated_U < self.held_out_U).mean()),
            "twin_of_known": plain(mean_of(self.twin_of_known_U)),
            "twin_of_held_out": plain(mean_of(self.twin_of_held_out_U)),
        }


def nearness_table(nearness: Mapping[str, Any]) -> str:
    """Return the distances to the nearest training user as Markdown."""
    rows = [
        [name, *(f"{q:.3f}" for q in nearness[of])]
        for name, of in (
            ("generated users", "nearest_of_generated"),
            ("real users, held out", "nearest_of_held_out"),
        )
    ]
    return table(["distance to the nearest training user", "least", "5 %", "median"], rows)


def nearness_text(nearness: Mapping[str, Any]) -> str:
    """Return in sentences whether the generator repeats those whom it has learned from."""
    known, held_out = (
        f"{one['mean']:.3f} [{one['ci_low']:.3f}, {one['ci_high']:.3f}]"
        for one in (nearness["twin_of_known"], nearness["twin_of_held_out"])
    )
    return (
        f"{nearness['nearer_than_the_real_one']:.0%} of the generated users are nearer to a "
        "training user than the real user with the same items and profile is. The mean absolute "
        "difference between a real user's ratings and those of a twin with the same items and "
        f"profile is {known} for users whom the generator has learned from, and {held_out} for "
        "held-out ones."
    )


def _quantiles(of_U: Float64Array) -> list[float]:
    return [round(float(q), 6) for q in np.quantile(of_U, QUANTILES)]


def mean_of(of_U: Float64Array) -> Interval:
    """Return the mean over users with its 95 % interval."""
    (found,) = mean_intervals(of_U[:, None], np.random.default_rng(0))
    return found


def measured(generator: Model, train: Tasks, held_out: Tasks, seed: int) -> Nearness:
    """Return the distances of generated and of held-out users to training users, and of twins."""
    num_items = generator.catalogue.num_items
    known, unknown = _whole(train), _whole(held_out)
    twin_of_known, twin = drawn(generator, known, seed), drawn(generator, unknown, seed)
    mean_I = _item_means(known.query, num_items)
    known_TI = _directions(known.query, mean_I)
    return Nearness(
        generated_U=_nearest(_directions(twin.query, mean_I), known_TI),
        held_out_U=_nearest(_directions(unknown.query, mean_I), known_TI),
        twin_of_known_U=_apart(known.query, twin_of_known.query),
        twin_of_held_out_U=_apart(unknown.query, twin.query),
    )


def _whole(tasks: Tasks) -> Tasks:
    """Return the tasks with all of their rows in the query."""
    rows = tasks.rows
    return dataclasses.replace(tasks, support=tasks.support.first(0), query=rows)


def _item_means(rows: Ragged, num_items: int) -> Float64Array:
    count_I = np.bincount(rows.item, minlength=num_items)
    total_I = np.bincount(rows.item, rows.value, minlength=num_items)
    everybody = rows.value.mean() if len(rows.value) else 0.0
    return np.asarray((total_I + everybody) / (count_I + 1), np.float64)


def _directions(rows: Ragged, mean_I: Float64Array) -> Float64Array:
    """Return (U, I) users' deviations from the items' means, of length 1; 0 where unrated."""
    found_UI = np.zeros((len(rows), len(mean_I)))
    found_UI[rows.task, rows.item] = rows.value - mean_I[rows.item]
    length_U1 = np.linalg.norm(found_UI, axis=1, keepdims=True)
    np.divide(found_UI, length_U1, out=found_UI, where=length_U1 > 0)
    return found_UI


def _nearest(user_UI: Float64Array, known_TI: Float64Array) -> Float64Array:
    return np.asarray(1 - (user_UI @ known_TI.T).max(1))


def _apart(real: Ragged, twin: Ragged) -> Float64Array:
    """Return each user's mean absolute difference of the same rows."""
    total_U = np.bincount(real.task, np.abs(real.value - twin.value), minlength=len(real))
    return np.asarray(total_U / np.maximum(real.lengths, 1))
