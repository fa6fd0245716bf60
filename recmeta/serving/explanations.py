"""Why an item stands in a user's list: exact effects of the user's known interactions.

The effect of a support row on a score is the score with all rows minus the score with all but that
row. Adaptation is a pure function, so leaving a row out is adapting one more user: a user with n
rows is n + 1 users of a batch, for any learner. A learner with a closed form computes all of them
at once (`LeavesOut`). Nothing is approximated: the effect is exactly the difference that scoring
the user without the row makes.

Legend: B users, k items of each, N support rows of all users, V variants (N + B).
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch

from recmeta.metalearn.learner import UserState, leaves_out
from recmeta.metalearn.scorer import Scorer
from recmeta.metalearn.tensors.batch import Rows, Support
from recmeta.tasks.arrays import Float32Array, IntArray
from recmeta.tasks.task_set import Ragged, Tasks

ROWS_AT_ONCE = 65_536
"""The most support rows and scored items, of all variants, that are in memory at once."""
_Scored = Callable[[Scorer, UserState, Rows], Float32Array]
"""Returns (B, k) scores of adapted users' items."""


@dataclasses.dataclass(frozen=True)
class SupportEffects:
    """The effect of each support row on the scores of its user's items."""

    score_Bk: Float32Array
    """Scores with all rows, in units of the value (a logit for implicit feedback), before they
    are clipped to its range; NaN where there is no item."""
    effect_Nk: Float32Array
    """The score with all rows minus the score without this row, in the same units. The rows are
    laid end to end, as in `Tasks.support`."""
    user_N: IntArray
    """The user of each row."""

    def best_reason(self) -> IntArray:
        """Return (B, k) the row that raises the score most, by its position among the N, the first
        of equal ones; -1 if none raises it."""
        num_users, num_items = self.score_Bk.shape
        best_Bk = np.full((num_users, num_items), -1, np.int64)
        if not len(self.user_N):
            return best_Bk
        effect_Nk = np.where(self.effect_Nk > 0, self.effect_Nk, 0)
        first_B = np.searchsorted(self.user_N, np.arange(num_users))
        has_rows_B = np.bincount(self.user_N, minlength=num_users) > 0
        most_Bk = np.zeros((num_users, num_items), np.float32)
        most_Bk[has_rows_B] = np.maximum.reduceat(effect_Nk, first_B[has_rows_B])
        row_N1 = np.arange(len(self.user_N))[:, None]
        is_most_Nk = (effect_Nk == most_Bk[self.user_N]) & (effect_Nk > 0)
        place_Nk = np.where(is_most_Nk, row_N1, len(self.user_N))
        found_Bk = np.minimum.reduceat(place_Nk, first_B[has_rows_B])
        best_Bk[has_rows_B] = np.where(found_Bk < len(self.user_N), found_Bk, -1)
        return best_Bk


def support_effects(
    scorer: Scorer, tasks: Tasks, item_Bk: IntArray, support: Support | None = None
) -> SupportEffects:
    """Return the exact effect of every support row on the scores of given items.

    Args:
        tasks: B users, with their known interactions as support.
        item_Bk: numbers of the items to explain; -1 for none.
        support: from `scorer.support(tasks)`, if it is available.
    """
    if scorer.model.levels is not None:
        return _of_variants(scorer, tasks, item_Bk, _expected)
    found, units = output_effects(scorer, tasks, item_Bk, support), scorer.model.units
    return SupportEffects(
        units.expected_unclipped(torch.from_numpy(found.score_Bk)),
        (found.effect_Nk * np.float32(units.expected_per_output)).astype(np.float32),
        found.user_N,
    )


def output_effects(
    scorer: Scorer,
    tasks: Tasks,
    item_Bk: IntArray,
    support: Support | None = None,
    *,
    on_lists: bool = False,
) -> SupportEffects:
    """Return the same in units of the model: scores are what the learner orders items by.

    Args:
        tasks: as for `support_effects`, and so are the others.
        on_lists: whether scores are those by which the learner orders lists out of the catalogue,
            where they are others.
    """
    at_once = _without_each(scorer, tasks, item_Bk, support)
    if at_once is not None:
        return at_once
    return _of_variants(scorer, tasks, item_Bk, _listed if on_lists else _outputs)


def _of_variants(
    scorer: Scorer, tasks: Tasks, item_Bk: IntArray, scored: _Scored
) -> SupportEffects:
    """Return the effects by adapting users without each of their rows."""
    score_Vk, owner_V, omitted_V = _leave_one_out(scorer, tasks, item_Bk, scored)
    everything = omitted_V < 0
    score_Bk = score_Vk[everything]
    user_N = owner_V[~everything]
    return SupportEffects(score_Bk, score_Bk[user_N] - score_Vk[~everything], user_N)


@torch.no_grad()
def _without_each(
    scorer: Scorer, tasks: Tasks, item_Bk: IntArray, support: Support | None
) -> SupportEffects | None:
    """Return the effects in the learner's closed form; None if it has none."""
    learner, known = scorer.model.learner, tasks.support
    if not leaves_out(learner):
        return None
    named_Bk = item_Bk >= 0
    score_Bk = np.full(item_Bk.shape, np.nan, np.float32)
    effect_Nk = np.full((len(known.item), item_Bk.shape[1]), np.nan, np.float32)
    longest = int(known.lengths.max(initial=0))
    size = max(1, ROWS_AT_ONCE // (1 + longest + item_Bk.shape[1]))
    for number, some in enumerate(tasks.batches(size)):
        first = number * size
        chosen = slice(first, first + len(some))
        rows = scorer.rows(Ragged.asking(item_Bk[chosen]), some)
        own = support if support is not None and some is tasks else scorer.support(some)
        found = learner.ranked_without(scorer.params, own, rows)
        if found is None:
            return None
        output_BVk = found.detach().cpu().float().numpy()
        score_BVk = np.where(named_Bk[chosen][:, None], output_BVk, np.nan)
        score_Bk[chosen] = score_BVk[:, 0]
        task, position = some.support.task, some.support.position
        place = slice(int(known.offsets[first]), int(known.offsets[first]) + len(task))
        effect_Nk[place] = score_BVk[task, 0] - score_BVk[task, 1 + position]
    return SupportEffects(score_Bk, effect_Nk, known.task)


def _leave_one_out(
    scorer: Scorer, tasks: Tasks, item_Bk: IntArray, scored: _Scored
) -> tuple[Float32Array, IntArray, IntArray]:
    """Return scores (V, k), each variant's user, and the place of the row that it lacks (-1: it
    lacks none, which comes first)."""
    lengths = tasks.support.lengths
    owner_V = np.repeat(np.arange(len(tasks)), lengths + 1)
    first_V = np.repeat(np.cumsum(lengths + 1) - lengths - 1, lengths + 1)
    omitted_V = np.arange(len(owner_V)) - first_V - 1
    score_Vk = np.full((len(owner_V), item_Bk.shape[1]), np.nan, np.float32)
    # The shortest first, so that little is padded.
    order = np.argsort(lengths[owner_V], kind="stable")
    width_V = lengths[owner_V[order]] + item_Bk.shape[1]
    start = 0
    while start < len(order):
        size_V = width_V[start:] * np.arange(1, len(order) - start + 1)
        end = start + max(1, int(np.searchsorted(size_V, ROWS_AT_ONCE, "right")))
        chosen = order[start:end]
        variants = tasks.take(owner_V[chosen])
        left = variants.support.position != omitted_V[chosen][variants.support.task]
        variants = dataclasses.replace(variants, support=variants.support.select(left))
        score_Vk[chosen] = _scores(scorer, variants, item_Bk[owner_V[chosen]], scored)
        start = end
    return score_Vk, owner_V, omitted_V


@torch.no_grad()
def _scores(scorer: Scorer, tasks: Tasks, item_Bk: IntArray, scored: _Scored) -> Float32Array:
    """Return the scores of the users' items; NaN where there is none."""
    rows = scorer.rows(Ragged.asking(item_Bk), tasks)
    score_Bk = scored(scorer, scorer.adapt(tasks), rows)
    return np.where(item_Bk >= 0, score_Bk, np.nan).astype(np.float32)


def _outputs(scorer: Scorer, state: UserState, rows: Rows) -> Float32Array:
    """Return the values by which the learner orders items."""
    found: Float32Array = scorer.predict(state, rows).ranked_by_BR.cpu().float().numpy()
    return found


def _listed(scorer: Scorer, state: UserState, rows: Rows) -> Float32Array:
    """Return the values by which the learner orders lists."""
    found: Float32Array = scorer.predict(state, rows).listed_by_BR.cpu().float().numpy()
    return found


def _expected(scorer: Scorer, state: UserState, rows: Rows) -> Float32Array:
    """Return the expected value, in units of the value, before it is clipped to its range."""
    return scorer.predict_values(state, rows).mean
