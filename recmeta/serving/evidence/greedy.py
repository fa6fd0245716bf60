"""One list for everybody, built greedily from the items that lower the training users' query loss
most.

A training user answers only about what they rated, so that an item that few know lowers little. The
gain of an item mostly falls as the list grows; as in lazy greedy selection (Minoux, 1978; Leskovec
et al., CELF, KDD 2007) only the items that were best before are evaluated again.

Legend: B training users, C candidates, N answers.
"""

import dataclasses

import numpy as np

from recmeta.metalearn.model import Model
from recmeta.serving.evidence.query_loss import loss_with_answer, query_loss
from recmeta.serving.evidence.respondents import Respondents
from recmeta.serving.evidence.strategy import Candidates, FixedOrder
from recmeta.tasks.arrays import BoolArray, Float64Array, IntArray


@dataclasses.dataclass(frozen=True, kw_only=True)
class GreedyConfig:
    """How thorough the selection is."""

    num_items: int = 30
    """Length of the list, after which the most popular items follow."""
    num_considered: int = 200
    """The number of most popular candidates from which it selects."""
    num_rechecked: int = 25
    """The number of candidates, best by their last known gain, that are evaluated again for each
    further place."""

    def __post_init__(self) -> None:
        for name in ("num_items", "num_considered", "num_rechecked"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")


def greedy_loss(
    model: Model, people: Respondents, candidates: Candidates, config: GreedyConfig
) -> FixedOrder:
    """Return the strategy.

    Args:
        people: training users.
    """
    num_considered = min(config.num_considered, len(candidates))
    num_items = min(config.num_items, num_considered)
    place_N = candidates.places(people.answers.item)
    given_N = np.zeros(len(place_N), np.bool_)
    gain_C = np.full(len(candidates), -np.inf)
    worth_C = candidates.share_C - 2.0  # behind everything that is selected
    checked_C = np.arange(len(candidates)) < num_considered
    for taken in range(num_items):
        found_C = _gains(model, people, place_N, given_N, checked_C)
        gain_C[checked_C] = found_C[checked_C]
        best = int(np.argmax(gain_C))
        worth_C[best] = 1.0 - taken / num_items
        gain_C[best] = -np.inf
        given_N |= place_N == best
        checked_C = np.zeros(len(candidates), np.bool_)
        checked_C[np.argsort(-gain_C, kind="stable")[: config.num_rechecked]] = True
        checked_C &= gain_C > -np.inf
    return FixedOrder("greedy-loss", worth_C)


def _gains(
    model: Model,
    people: Respondents,
    place_N: IntArray,
    given_N: BoolArray,
    checked_C: BoolArray,
) -> Float64Array:
    """Return (C,) by how much asking about each checked candidate lowers the mean loss."""
    before = people.after(given_N)
    loss_B = query_loss(model, before)
    row_N = np.flatnonzero((place_N >= 0) & ~given_N & checked_C[place_N])
    after_N = loss_with_answer(model, people, before.support, row_N)
    gain_N = loss_B[people.answers.task[row_N]] - after_N
    gain_C: Float64Array = np.bincount(place_N[row_N], gain_N, len(checked_C)) / len(people)
    return gain_C
