"""Matrix factorisation by alternating least squares, with new users folded in from their support.

Legend: U users, u some of them, I items, N rows, n those of some users, F factors, C = F + 1
coefficients (bias first).
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recmeta.errors import UserError
from recmeta.evaluation.baseline import Baseline, BaselineSearch, OnTrial, unrecorded
from recmeta.evaluation.baseline_parts.rows import mean_value, training_rows
from recmeta.evaluation.baselines.averages import item_mean_user_bias
from recmeta.metalearn.numerics.threads import one_thread
from recmeta.tasks.arrays import Float32Array, Float64Array, IntArray, offsets_of
from recmeta.tasks.task_set import Ragged, Tasks, TaskSetSpec

SYSTEMS_AT_ONCE = 2**14
"""Users, or items, whose matrices are in memory at once."""
MOST_NUMBERS = 2**24
"""Products of coefficients of the other side that are in memory at once: 128 MiB."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatrixFactorisationConfig:
    """The size and the ridge weights: the noise's variance over that of the coefficient."""

    num_factors: int = 8
    """The length of a user's and of an item's vector; at least 0."""
    factor_regularisation: float = 8.0
    """The ridge weight of every factor, in units of the value, as products of two factors are;
    above 0."""
    item_regularisation: float = 3.0
    """The ridge weight of an item's bias; above 0."""
    user_regularisation: float = 5.0
    """The ridge weight of a user's bias; above 0."""
    sweeps: int = 10
    """The number of alternations between users and items."""

    def __post_init__(self) -> None:
        for name in ("factor_regularisation", "item_regularisation", "user_regularisation"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} is {getattr(self, name)}; it must be above 0.")
        if self.num_factors < 0:
            raise UserError(f"num_factors is {self.num_factors}; it must be 0 or more.")


@dataclasses.dataclass(frozen=True)
class GroupedResiduals:
    """The rows of every user (or item), laid end to end: the rows of user u lie between two
    offsets."""

    offsets: IntArray
    """(U + 1,)"""
    other: npt.NDArray[np.integer]
    """(N,) the item (or user) at the other end of each row."""
    value: Float32Array
    """(N,)"""
    mean: float
    """The global mean, which is subtracted from values."""

    @classmethod
    def of_users(cls, rows: Ragged, mean: float) -> "GroupedResiduals":
        """Return the rows grouped by user."""
        return cls(rows.offsets - rows.offsets[0], rows.item, rows.value, mean)

    @classmethod
    def of_items(cls, rows: Ragged, mean: float, num_items: int) -> "GroupedResiduals":
        """Return the rows grouped by item."""
        order = np.argsort(rows.item, kind="stable")
        lengths = np.bincount(rows.item, minlength=num_items)
        task_N = np.repeat(np.arange(len(rows), dtype=np.int32), rows.lengths)
        return cls(offsets_of(lengths), task_N[order], rows.value[order], mean)

    def bags(self) -> Iterator["_Bags"]:
        """Yield the rows of some users (or items) after the other."""
        for start in range(0, len(self.offsets) - 1, SYSTEMS_AT_ONCE):
            offsets = self.offsets[start : start + SYSTEMS_AT_ONCE + 1]
            rows = slice(offsets[0], offsets[-1])
            yield _Bags(
                torch.from_numpy(offsets - offsets[0]),
                torch.from_numpy(self.other[rows].astype(np.int64)),
                torch.from_numpy(self.value[rows].astype(np.float64) - self.mean),
            )


@dataclasses.dataclass(frozen=True)
class _Bags:
    """The rows of some users (or items)."""

    offsets: Tensor
    other: Tensor
    residual: Tensor

    def sums(self, table: Tensor, weight_n: Tensor | None = None) -> Tensor:
        """Return the sum over each one's rows of the rows of a table."""
        return torch.nn.functional.embedding_bag(
            self.other,
            table,
            self.offsets,
            mode="sum",
            per_sample_weights=weight_n,
            include_last_offset=True,
        )

    def triangles(self, design_OC: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """Return the sums over each one's rows of the products of coefficients i and j."""
        at_once = max(1, MOST_NUMBERS // len(design_OC))
        some = [slice(first, first + at_once) for first in range(0, len(i), at_once)]
        return torch.cat([self.sums(design_OC[:, i[c]] * design_OC[:, j[c]]) for c in some], 1)


# There are many small systems: threads gain nothing on an idle machine and lose a factor of ten on
# a busy one, and one thread sums in the same order on any machine.
@one_thread(True)
def ridge(
    rows: GroupedResiduals, other_OC: Tensor, bias_ridge: float, factor_ridge: float
) -> Tensor:
    """Return (U, C) the coefficients of every user given those of the items, in closed form.

    User u's (bias b, vector p) minimises sum_i (residual_ui - b_i - b - p.q_i)^2 + bias_ridge b^2 +
    factor_ridge |p|^2: one C x C system each, some solved together. Items given users is the same
    problem.
    """
    bias_O, design_OC = other_OC[:, 0], other_OC.clone()
    design_OC[:, 0] = 1.0
    num_coefficients = other_OC.shape[1]
    # A user's Gram matrix is the sum of its items' outer products, a bag of embeddings. It is
    # symmetric, so that only one triangle is summed.
    i, j = torch.triu_indices(num_coefficients, num_coefficients)
    penalty = torch.full((num_coefficients,), factor_ridge, dtype=torch.float64)
    penalty[0] = bias_ridge
    found = [other_OC.new_zeros(0, num_coefficients)]
    for bags in rows.bags():
        triangle = bags.triangles(design_OC, i, j)
        gram = triangle.new_zeros(len(triangle), num_coefficients, num_coefficients)
        gram[:, i, j] = triangle
        gram[:, j, i] = triangle
        gram += torch.diag(penalty)
        target_uC = bags.sums(design_OC, bags.residual - bias_O[bags.other])
        factor, _ = torch.linalg.cholesky_ex(gram)  # positive definite: every penalty is above 0
        found.append(torch.cholesky_solve(target_uC[..., None], factor)[..., 0])
    return torch.cat(found)


@dataclasses.dataclass(frozen=True)
class MatrixFactorisation:
    """Predicts mu + b_i + b_u + p_u.q_i (Koren, Bell and Volinsky, IEEE Computer 2009, equation 5).

    Fitted by alternating ridge regressions in float64. A new user's b_u and p_u are that regression
    on the support with the items fixed ("fold-in"), so both are 0 with no support. An unknown
    item has b_i = 0 and q_i = 0.
    """

    mean: float
    item_IC: Tensor
    """(I, C) every item's bias and vector, float64."""
    config: MatrixFactorisationConfig
    value_range: tuple[float, float]
    name: ClassVar[str] = "mf-fold-in"
    predicts_values: ClassVar[bool] = True

    @classmethod
    def fit(
        cls,
        train: Tasks,
        num_items: int,
        value_range: tuple[float, float],
        config: MatrixFactorisationConfig | None = None,
        seed: int = 0,
        start: "MatrixFactorisation | None" = None,
        first_spread: float = 0.3,
    ) -> "MatrixFactorisation":
        """Return the items' biases and vectors, fitted to the rows of the meta-training tasks.

        Args:
            seed: draws the initial vectors.
            start: a fit with whose items to begin instead; it must have the same number of factors.
            first_spread: the standard deviation of the initial vectors, in roots of the value's
                unit.
        """
        config = config or MatrixFactorisationConfig()
        rows = training_rows(train)
        mean = mean_value(rows)
        users, items = (
            GroupedResiduals.of_users(rows, mean),
            GroupedResiduals.of_items(rows, mean, num_items),
        )
        if start is not None:
            item_IC = start.item_IC
        else:
            noise = np.random.default_rng(seed).normal(size=(num_items, config.num_factors + 1))
            item_IC = torch.from_numpy(noise) * first_spread
            item_IC[:, 0] = 0.0
        for _ in range(config.sweeps):
            user_UC = ridge(
                users, item_IC, config.user_regularisation, config.factor_regularisation
            )
            item_IC = ridge(
                items, user_UC, config.item_regularisation, config.factor_regularisation
            )
        return cls(mean, item_IC, config, value_range)

    def fold_in(self, support: Ragged) -> Tensor:
        """Return (B, C) each user's bias and vector, given the support."""
        return ridge(
            GroupedResiduals.of_users(support, self.mean),
            self.item_IC,
            self.config.user_regularisation,
            self.config.factor_regularisation,
        )

    def score_query(self, tasks: Tasks) -> Float64Array:
        """Return (N,) predicted values, clipped to the value range."""
        user_NC = self.fold_in(tasks.support)[torch.from_numpy(tasks.query.task)]
        item_NC = self.item_IC[torch.from_numpy(tasks.query.item.astype(np.int64))]
        bias_N = user_NC[:, 0] + item_NC[:, 0]
        predicted_N = self.mean + bias_N + (user_NC[:, 1:] * item_NC[:, 1:]).sum(1)
        clipped: Float64Array = predicted_N.clamp(*self.value_range).numpy()
        return clipped

    def score_items(self, tasks: Tasks) -> Float64Array:
        """Return (B, I) predicted values, not clipped, so that the best items do not tie."""
        user_BC = self.fold_in(tasks.support)
        scores_BI = user_BC[:, 1:] @ self.item_IC[:, 1:].T
        scores_BI += self.mean + user_BC[:, :1] + self.item_IC[:, 0]
        scores: Float64Array = scores_BI.numpy()
        return scores


@dataclasses.dataclass(frozen=True, kw_only=True)
class FactorGrid:
    """The candidates of the factorisation."""

    num_factors: tuple[int, ...]
    regularisation_path: tuple[float, ...]
    """The ridge weights from strong to weak: each fit starts from the last one, so that few sweeps
    suffice."""
    first_sweeps: int
    """The number of sweeps of a fit that starts from noise."""
    sweeps: int
    """The number of sweeps of a fit that starts from another."""
    in_units: bool
    """Whether ridge weights are in units of the value's spread: the path is for values with a
    standard deviation of about 1, such as one to five stars."""


GATE_GRID = FactorGrid(
    num_factors=(4, 8, 16),
    regularisation_path=(14.0, 10.0, 7.0, 5.0, 3.5),
    first_sweeps=10,
    sweeps=10,
    in_units=True,
)
PUBLISHED_GRID = FactorGrid(
    num_factors=(2, 4, 8, 16),
    regularisation_path=(14.0, 10.0, 7.0, 5.0, 3.5, 2.5),
    first_sweeps=20,
    sweeps=10,
    in_units=False,
)
FIRST_SPREAD = 0.3


def _grid(search: BaselineSearch) -> FactorGrid:
    return GATE_GRID if search.grid == "gate" else PUBLISHED_GRID


def _unit(search: BaselineSearch) -> float:
    """Return the power of two (so that nothing is rounded) nearest to the standard deviation of the
    training values, or 1 if they are all the same."""
    if not _grid(search).in_units:
        return 1.0
    spread = float(np.std(training_rows(search.train).value, dtype=np.float64))
    return 2.0 ** round(math.log2(spread)) if spread > 0 else 1.0


def _configs(
    search: BaselineSearch, shapes: Sequence[tuple[int, float]]
) -> list[MatrixFactorisationConfig]:
    """Return a candidate for each number of factors and ridge weight. The biases' ridge weights,
    which have no unit, are those that the search chooses for the biases alone."""
    biases, unit = search.chosen(item_mean_user_bias.BASELINE).config, _unit(search)
    return [
        MatrixFactorisationConfig(
            num_factors=num_factors,
            factor_regularisation=unit * regularisation,
            item_regularisation=biases.item_regularisation,
            user_regularisation=biases.user_regularisation,
        )
        for num_factors, regularisation in shapes
    ]


def _candidates(search: BaselineSearch) -> list[MatrixFactorisationConfig]:
    grid = _grid(search)
    return _configs(search, list(itertools.product(grid.num_factors, grid.regularisation_path)))


def _default(search: BaselineSearch) -> MatrixFactorisationConfig:
    usual = MatrixFactorisationConfig()
    return _configs(search, [(usual.num_factors, usual.factor_regularisation)])[0]


def _fit_all(
    search: BaselineSearch, train: Tasks, configs: Sequence[MatrixFactorisationConfig]
) -> Iterator[MatrixFactorisation]:
    grid, spread = _grid(search), FIRST_SPREAD * math.sqrt(_unit(search))
    last: MatrixFactorisation | None = None
    for config in configs:
        if last is not None and last.config.num_factors != config.num_factors:
            last = None
        sweeps = grid.first_sweeps if last is None else grid.sweeps
        last = MatrixFactorisation.fit(
            train,
            search.num_items,
            search.value_range,
            dataclasses.replace(config, sweeps=sweeps),
            search.seed,
            last,
            spread,
        )
        yield last


BASELINE = Baseline(
    name=MatrixFactorisation.name,
    candidates=_candidates,
    fit_all=_fit_all,
    default=_default,
    known_items_only=True,
)


def tune_matrix_factorisation(
    spec: TaskSetSpec, train: Tasks, dev: Tasks, seed: int = 0, on_trial: OnTrial = unrecorded
) -> MatrixFactorisation:
    """Return the factorisation whose size and ridge weights predict the dev queries best."""
    found = BaselineSearch.of(spec, train, dev, seed, on_trial).fitted(BASELINE)
    assert isinstance(found, MatrixFactorisation)
    return found
