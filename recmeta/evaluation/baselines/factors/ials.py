"""iALS with fold-in, by the library `implicit` (Hu, Koren and Volinsky, ICDM 2008).

Legend: B users, I items, F factors.
"""

import dataclasses
import itertools
from typing import Any, ClassVar

import numpy as np

from recmeta.evaluation.baseline import Baseline, each
from recmeta.evaluation.baseline_parts.lists_of_ratings import with_lists_of_ratings
from recmeta.evaluation.baseline_parts.rows import training_rows
from recmeta.evaluation.predictor import Scores
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Ragged, Tasks


@dataclasses.dataclass(frozen=True, kw_only=True)
class IALSConfig:
    """The library's hyperparameters."""

    num_factors: int = 64
    """F"""
    regularisation: float = 1.0
    """The ridge weight of every factor."""
    alpha: float = 1.0
    """The confidence of an interaction relative to that of an absent one."""
    sweeps: int = 15
    """The number of alternations between users and items."""


PUBLISHED_GRID = tuple(
    IALSConfig(num_factors=f, regularisation=r, alpha=a)
    for f, r, a in itertools.product((64, 128), (0.3, 3.0, 30.0, 100.0), (1.0, 10.0, 40.0))
)
GATE_GRID = tuple(
    IALSConfig(num_factors=f, regularisation=r, alpha=a)
    for f, r, a in itertools.product((64,), (1.0, 3.0, 10.0, 30.0), (1.0, 10.0))
)


class IALS:
    """Scores p_u.q_i; a new user's p_u is one exact alternation, given the support."""

    name: ClassVar[str] = "ials"
    predicts_values: ClassVar[bool] = False

    def __init__(self, model: Any, num_items: int) -> None:
        self.model = model
        self.num_items = num_items

    @classmethod
    def fit(cls, train: Tasks, num_items: int, config: IALSConfig, seed: int) -> "IALS":
        """Return the items' factors, fitted to the support and query rows of the meta-training
        tasks."""
        from implicit.cpu.als import AlternatingLeastSquares

        model = AlternatingLeastSquares(
            factors=config.num_factors,
            regularization=config.regularisation,
            alpha=config.alpha,
            iterations=config.sweeps,
            random_state=seed,
            num_threads=1,
        )
        model.fit(_matrix(training_rows(train), num_items), show_progress=False)
        return cls(model, num_items)

    def score_query(self, tasks: Tasks) -> Scores:
        """Return (N,) a score for every query row."""
        scores_BI = self.score_items(tasks)
        scores: Float64Array = scores_BI[tasks.query.task, tasks.query.item].astype(np.float64)
        return scores

    def score_items(self, tasks: Tasks) -> Scores:
        """Return (B, I) scores of the whole catalogue."""
        users = np.arange(len(tasks))
        user_BF = self.model.recalculate_user(users, _matrix(tasks.support, self.num_items))
        scores: Scores = user_BF @ self.model.item_factors.T
        return scores


def _matrix(rows: Ragged, num_items: int) -> Any:
    from scipy.sparse import csr_matrix

    ones = np.ones(len(rows.item), np.float32)
    shape = (len(rows), num_items)
    # A copy, since the library refuses the read-only arrays of tasks.
    return csr_matrix((ones, rows.item, rows.offsets), shape=shape, copy=True)


BASELINE = with_lists_of_ratings(
    Baseline(
        name=IALS.name,
        candidates=lambda search: GATE_GRID if search.grid == "gate" else PUBLISHED_GRID,
        fit_all=each(
            lambda search, train, config: IALS.fit(train, search.num_items, config, search.seed)
        ),
        default=lambda search: IALSConfig(),
        objectives=("implicit",),
        known_items_only=True,
        library="implicit",
    )
)
