"""The probability of each level of a scale: a distribution, of which each use reads its own
statistic.

    P(y ≤ level k) = σ((t_k − η) / τ)        η = w · x,   log τ = log(√3 / π) + g · u

The thresholds t_k of a cumulative logit model (McCullagh, Regression Models for Ordinal Data, JRSS
B 1980) lie between neighbouring levels; how far the distribution spreads, τ, is a function of its
own, as in the location-scale form of that model. x has the learner's mean, the vote of item-to-item
neighbours among the user's ratings, how far the user rates above or below others, and the item's
past; u has the learner's spread, the number of the user's ratings and their variance, and the
number of users who rated the item. The median has the least absolute error, the mean has the least
squared error and the finest order, and the upper tail is the probability that the user likes the
item.

    vote(i) = Σ_j s_ij e_j / (Σ_j s_ij + d)   e_j = r_j − μ − b_j − b_u

are the residuals of the user's ratings, weighted by shrunk similarities (Sarwar et al., WWW 2001;
biases: Koren, KDD 2008, section 2.1). The vote is 0 for a user without ratings and for a new item.

An item that nobody has rated has no bias, no past and no vote. What these say of other items is
part of every coefficient, so that such an item has coefficients of its own, which are learned from
the same ratings as if their items were new: from the learner's mean and spread and from the user.

Legend: B users, S support rows (padded), R rows to predict, N rows, L levels, T = L − 1 thresholds,
F location columns, G scale columns, C inputs, J items of the tables, I of a catalogue.
"""

import dataclasses
import math
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from recmeta.metalearn.heads.neighbours import Neighbours
from recmeta.metalearn.heads.uncertainty import MEAN_SHRINKAGE, support_variance
from recmeta.metalearn.learner import Params, UserState
from recmeta.tasks.arrays import BoolArray, Float64Array, IntArray
from recmeta.tasks.task_set import Ragged

FloatArray = npt.NDArray[np.floating]

PLACE, RESIDUAL, COUNTS = "levels.place", "levels.residual", "levels.counts"
"""Keys of a user's state, (B, S): the positions of the rows' items in the tables, the residuals of
the rows' values after the biases, and 1 for each row that has neighbours, 0 for other rows and
padding."""
ABOUT = "levels.about"
"""Key of a user's state, (B, 4): log(1 + rows), the shrunk mean of the user's values, the user's
bias, and the logarithm of the variance of the user's values."""
INPUTS = (
    "mean",
    "log_spread",
    "log_rows",
    "user_mean",
    "user_bias",
    "log_variance",
    "item_bias",
    "past_mean",
    "log_users",
    "vote",
)
"""The C inputs, in steps of the scale: the learner's mean minus that of all values, the logarithm
of its spread, log(1 + the user's rows), the shrunk mean of the user's values minus that of all, the
user's bias, the logarithm of the variance of the user's values, the item's bias, the mean of the
item's past minus that of all values, log(1 + users of the item), and the vote."""
BY_ROWS = " by rows"
LOCATION = (
    "mean",
    "mean by rows",
    "vote",
    "vote by rows",
    "user_mean",
    "user_bias",
    "user_bias by rows",
    "item_bias",
    "item_bias by rows",
    "past_mean",
    "log_users",
)
"""The F columns of the location. An input whose worth grows or shrinks with the number of rows has
a slope over its logarithm.
"""
SCALE = ("log_spread", "log_rows", "log_variance", "log_users")
"""G columns."""
LOG_USERS = INPUTS.index("log_users")
MIDDLE_ROWS, MIDDLE_USERS = 2.0, 5.0
"""Subtracted from the logarithms of counts, so that columns are centred near 0."""
LOG_WIDTH = math.log(math.sqrt(3) / math.pi)
LEAST_SPREAD = 1e-3
"""In steps."""
CELLS_AT_ONCE = 2**21
"""The most pairs of a user's row and a requested item that are in memory at once."""


@dataclasses.dataclass(frozen=True, eq=False)
class LevelShares:
    """Distributions over the levels of a scale."""

    value_L: Float64Array
    """The levels in ascending order."""
    share_L: Float64Array
    """(..., L) the probabilities of the levels, which sum to 1."""

    @property
    def median(self) -> Float64Array:
        """(...) the median: the lowest level at or below which the rating lies with probability 1/2
        or more."""
        below_T = self.share_L.cumsum(-1)[..., :-1]
        return np.asarray(self.value_L[(below_T < 0.5).sum(-1)])

    @property
    def mean(self) -> Float64Array:
        """(...)"""
        return np.asarray(self.share_L @ self.value_L)

    @property
    def deviation(self) -> Float64Array:
        """(...) the standard deviation."""
        away_L = self.value_L - self.mean[..., None]
        return np.asarray(np.sqrt((self.share_L * away_L**2).sum(-1)))

    def of(self, mask: BoolArray) -> "LevelShares":
        """Return the distributions where a mask (...) is true, laid end to end."""
        return LevelShares(self.value_L, self.share_L[mask])

    def at_least(self, value: float) -> Float64Array:
        """Return (...) the probability that a rating is at least this high."""
        return np.asarray(self.share_L[..., self.value_L >= value].sum(-1))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LevelHead:
    """The distribution of ratings over the levels of their scale. It computes on the CPU, in
    float64; item numbers are those of the catalogue that the model is over."""

    lowest: float
    step: float
    """The distance between neighbouring levels, in units of the value."""
    threshold_T: torch.Tensor
    """float64, ascending, in steps above μ."""
    location_F: torch.Tensor
    """float64, w."""
    scale_G: torch.Tensor
    """float64, g."""
    new_threshold_T: torch.Tensor
    """float64, the thresholds of items that nobody has rated."""
    new_location_F: torch.Tensor
    """float64, w of items that nobody has rated: 0 for the columns of the item."""
    new_scale_G: torch.Tensor
    """float64, g of items that nobody has rated."""
    bound_2C: torch.Tensor
    """float64, the least and the greatest value of each input in the data that the coefficients
    were learned from. Inputs beyond these bounds are clipped, except for the learner's mean."""
    mean: float
    """μ, of all values."""
    deviation: float
    """The standard deviation of all values."""
    user_regularisation: float
    """A user's bias is shrunk as if by this many more rows."""
    damping: float
    """d"""
    bias_J: torch.Tensor
    """float32, b of the items."""
    similar: Neighbours
    """s, over the J items."""
    place_I: torch.Tensor
    """int64, the position of each item of the catalogue among the J items, or -1 if it is new."""
    separates_new: bool = True
    """Whether items that nobody has rated have coefficients of their own. Heads of version 0.1 have
    one set for all items, and their `new_` fields are not read."""

    @property
    def num_levels(self) -> int:
        """L"""
        return len(self.threshold_T) + 1

    @property
    def value_L(self) -> Float64Array:
        """The levels."""
        return np.asarray(self.lowest + self.step * np.arange(self.num_levels))

    def on(self, number_I: IntArray) -> "LevelHead":
        """Return the head over another catalogue.

        Args:
            number_I: the number in this catalogue of each item of the other one, or -1 if it is
                new.
        """
        place = self.place_I.numpy()
        place_I = np.full(len(number_I), -1, np.int64)
        place_I[number_I >= 0] = place[number_I[number_I >= 0]]
        return dataclasses.replace(self, place_I=torch.from_numpy(place_I))

    # Users ---------------------------------------------------------------------------------------

    def state(self, support: Ragged) -> UserState:
        """Return the states of B users, on the CPU."""
        place_N = self.place_I.numpy()[support.item]
        is_known_N = place_N >= 0
        bias_J = self.bias_J.numpy().astype(np.float64)
        bias_N = np.zeros(len(place_N))
        bias_N[is_known_N] = bias_J[place_N[is_known_N]]
        left_N = support.value.astype(np.float64) - self.mean - bias_N
        total_B = np.bincount(support.task, left_N, minlength=len(support))
        user_B = total_B / (support.lengths + self.user_regularisation)
        mask_BS = support.mask
        place_BS = np.zeros(mask_BS.shape, np.int64)
        place_BS[mask_BS] = np.maximum(place_N, 0)
        residual_BS = np.zeros(mask_BS.shape, np.float32)
        residual_BS[mask_BS] = (left_N - user_B[support.task]) / self.step
        counts_BS = np.zeros(mask_BS.shape, np.float32)
        counts_BS[mask_BS] = is_known_N
        variance_B = support_variance(support, self.mean, self.deviation) / self.step**2
        sum_B = np.bincount(support.task, support.value - self.mean, minlength=len(support))
        mean_B = sum_B / (support.lengths + MEAN_SHRINKAGE)
        about = (
            np.log1p(support.lengths),
            mean_B / self.step,
            user_B / self.step,
            np.log(variance_B),
        )
        return {
            PLACE: torch.from_numpy(place_BS),
            RESIDUAL: torch.from_numpy(residual_BS),
            COUNTS: torch.from_numpy(counts_BS),
            ABOUT: torch.from_numpy(np.stack(about, -1).astype(np.float32)),
        }

    # Rows ----------------------------------------------------------------------------------------

    def inputs(
        self,
        state: UserState,
        number_BR: torch.Tensor,
        mean_BR: FloatArray,
        spread_BR: FloatArray | None,
        past_mean_BR: FloatArray,
        log_users_BR: FloatArray,
    ) -> Float64Array:
        """Return (B, R, C) the inputs of the distributions.

        Args:
            state: from `state`.
            number_BR: int64, the items.
            mean_BR: the learner's output, in units of the value, also beyond the ends of the scale.
            spread_BR: the learner's standard deviation, in the same units, or None if it has none.
            past_mean_BR: the mean of the item's values minus the mean of all, in the same units.
            log_users_BR: log(1 + users who had interacted with the item).
        """
        log_rows_B1, user_mean_B1, user_bias_B1, log_variance_B1 = np.split(
            state[ABOUT].cpu().numpy(), 4, axis=1
        )
        place_BR = self.place_I[number_BR.cpu()]
        bias_BR = torch.where(place_BR >= 0, self.bias_J[place_BR.clamp(min=0)], 0.0)
        columns: dict[str, FloatArray | float] = {
            "mean": (mean_BR.astype(np.float64) - self.mean) / self.step,
            "log_spread": 0.0
            if spread_BR is None
            else np.log(np.maximum(spread_BR.astype(np.float64) / self.step, LEAST_SPREAD)),
            "log_rows": log_rows_B1,
            "user_mean": user_mean_B1,
            "user_bias": user_bias_B1,
            "log_variance": log_variance_B1,
            "item_bias": bias_BR.numpy() / self.step,
            "past_mean": past_mean_BR / self.step,
            "log_users": log_users_BR,
            "vote": self.votes(state, number_BR),
        }
        found_BRC = np.empty((*mean_BR.shape, len(INPUTS)))
        for place, name in enumerate(INPUTS):
            found_BRC[..., place] = columns[name]
        return found_BRC

    def votes(self, state: UserState, number_BR: torch.Tensor) -> Float64Array:
        """Return (B, R) the votes of items' neighbours among the users' rows, in steps above the
        biases."""
        place_BR = self.place_I[number_BR.cpu()]
        place_BS, counts_BS = state[PLACE].cpu(), state[COUNTS].cpu().double()
        residual_BS = state[RESIDUAL].cpu().double()
        vote_BR = np.zeros(place_BR.shape)
        size = max(1, CELLS_AT_ONCE // max(1, place_BS.shape[1] * place_BR.shape[1]))
        for first in range(0, len(place_BS), size):
            users = slice(first, first + size)
            target_b1R = place_BR[users, None]
            near_bSR = self.similar.strength(place_BS[users, :, None], target_b1R.clamp(min=0))
            near_bSR = near_bSR * counts_BS[users, :, None] * (target_b1R >= 0)
            sum_bR = torch.einsum("bsr,bs->br", near_bSR, residual_BS[users])
            vote_BR[users] = (sum_bR / (near_bSR.sum(1) + self.damping)).numpy()
        return vote_BR

    def shares(self, inputs: Float64Array) -> LevelShares:
        """Return the distributions for inputs (..., C)."""
        bounded = np.clip(inputs, *self.bound_2C.numpy())
        bounded[..., 0] = inputs[..., 0]
        below_T = _below(bounded, self.threshold_T, self.location_F, self.scale_G)
        is_new = inputs[..., LOG_USERS] <= 0
        if self.separates_new and is_new.any():
            below_T[is_new] = _below(
                without_item(bounded[is_new]),
                self.new_threshold_T,
                self.new_location_F,
                self.new_scale_G,
            )
        share_L = np.diff(below_T, axis=-1, prepend=0.0, append=1.0)
        return LevelShares(self.value_L, share_L)

    # Saving --------------------------------------------------------------------------------------

    def tensors(self) -> Params:
        """Return all tensors by name."""
        new = (f"new_{name}" for name in LEARNED) if self.separates_new else ()
        names = (*_TENSORS, *new)
        found = {name: getattr(self, name) for name in names}
        for field in dataclasses.fields(self.similar):
            found[f"similar.{field.name}"] = getattr(self.similar, field.name)
        return {name: t.contiguous() for name, t in found.items()}

    def about(self) -> dict[str, Any]:
        """Return everything but the tensors, JSON-ready."""
        return {name: getattr(self, name) for name in _NUMBERS}

    @classmethod
    def from_saved(cls, about: dict[str, Any], tensors: Params) -> Self:
        """Return the head that `about` and `tensors` describe."""
        parts = (tensors[f"similar.{field.name}"] for field in dataclasses.fields(Neighbours))
        fields: dict[str, Any] = {name: float(about[name]) for name in _NUMBERS}
        fields |= {name: tensors[name] for name in _TENSORS}
        fields |= {f"new_{name}": tensors.get(f"new_{name}", tensors[name]) for name in LEARNED}
        separates_new = f"new_{LEARNED[0]}" in tensors
        return cls(similar=Neighbours(*parts), separates_new=separates_new, **fields)


LEARNED = ("threshold_T", "location_F", "scale_G")
"""The fields with coefficients; those of items that nobody has rated begin with `new_`."""
_TENSORS = (*LEARNED, "bound_2C", "bias_J", "place_I")
_NUMBERS = ("lowest", "step", "mean", "deviation", "user_regularisation", "damping")


def without_item(inputs: Float64Array) -> Float64Array:
    """Return inputs (..., C) in which all columns of the item itself are 0 in `designs`."""
    found = inputs.copy()
    for name in ("item_bias", "past_mean", "vote"):
        found[..., INPUTS.index(name)] = 0.0
    found[..., LOG_USERS] = MIDDLE_USERS
    return found


def _below(
    inputs: Float64Array,
    threshold_T: torch.Tensor,
    location_F: torch.Tensor,
    scale_G: torch.Tensor,
) -> Float64Array:
    """Return (..., T) the probability that a rating lies below each threshold."""
    location, scale = designs(inputs)
    return cumulative(location @ location_F.numpy(), scale @ scale_G.numpy(), threshold_T.numpy())


def designs(inputs: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return the columns of the location (..., F) and of the scale (..., G) for inputs (..., C)."""
    column = {name: inputs[..., place] for place, name in enumerate(INPUTS)}
    column["log_rows"] = column["log_rows"] - MIDDLE_ROWS
    column["log_users"] = column["log_users"] - MIDDLE_USERS
    for name in LOCATION:
        if name.endswith(BY_ROWS):
            column[name] = column[name.removesuffix(BY_ROWS)] * column["log_rows"]
    location = np.stack([column[name] for name in LOCATION], -1)
    return location, np.stack([column[name] for name in SCALE], -1)


def width(log_scale: Float64Array) -> Float64Array:
    """Return (...) τ: 0 stands for a logistic distribution with the standard deviation 1."""
    return np.asarray(np.exp(LOG_WIDTH + log_scale))


def cumulative(
    location: Float64Array, log_scale: Float64Array, threshold_T: Float64Array
) -> Float64Array:
    """Return (..., T) the probability that a rating lies below each threshold."""
    with np.errstate(over="ignore"):  # beyond the largest exponent the share is 0
        margin_T = (threshold_T - location[..., None]) / width(log_scale)[..., None]
        return np.asarray(1.0 / (1.0 + np.exp(-margin_T)))
