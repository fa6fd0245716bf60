"""How many of the items that a user rated highest stand at the top of a list: the metrics of
RecBole-MetaRec, TaNP and HIRE.

Their definitions leave open what stands first of what is equal, among the predictions and among
the ratings; here that is drawn at random, and the mean over `DRAWS` draws is given, which owes
nothing to the order of the rows.

Legend: B users, N query rows, V a user's most query rows, K places of a list.
"""

import numpy as np

from recmeta.evaluation.predictor import Scores
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Ragged

DRAWS = 20


def top_rated(order_N: Scores, query: Ragged, ks: tuple[int, ...]) -> dict[str, Float64Array]:
    """Return (B,) `precision@k` and `map@k` as TaNP and HIRE define them: an item at one of the
    first k places is a hit as long as the k best ratings have its rating left. NaN for a user with
    fewer than k query rows."""
    found: dict[str, Float64Array] = {}
    for k in ks:
        parts = [_by_value(*_drawn(order_N, query, draw), k) for draw in range(DRAWS)]
        for place, name in enumerate(("precision", "map")):
            found[f"{name}@{k}"] = np.mean([part[place] for part in parts], axis=0)
    return found


def drawn_positives(order_N: Scores, query: Ragged, k: int) -> dict[str, Float64Array]:
    """Return (B,) `drawn_precision@k`, `drawn_ndcg@k` and `drawn_mrr@k` as RecBole-MetaRec defines
    them: relevant are k items that no other is rated above, drawn among equals, and no others."""
    parts = []
    for draw in range(DRAWS):
        value_BV, tie_BV = _drawn(order_N, query, draw)
        # The first k by rating and then by the draw; what is absent is rated lowest.
        best_BV = np.lexsort((tie_BV, -value_BV), axis=-1)
        relevant_BV = np.zeros(value_BV.shape, np.bool_)
        np.put_along_axis(relevant_BV, best_BV[:, :k], True, axis=1)
        hit_BK = relevant_BV[:, :k]
        discount_K = 1 / np.log2(2.0 + np.arange(k))
        first_B = np.where(hit_BK.any(axis=1), 1 / (1 + hit_BK.argmax(axis=1)), 0.0)
        parts.append((hit_BK.mean(axis=1), hit_BK @ discount_K / discount_K.sum(), first_B))
    mean = np.mean(parts, axis=0)
    mean[:, query.lengths < k] = np.nan
    return {f"drawn_{n}@{k}": mean[i] for i, n in enumerate(("precision", "ndcg", "mrr"))}


def _drawn(order_N: Scores, query: Ragged, draw: int) -> tuple[Float64Array, Float64Array]:
    """Return (B, V) the ratings as they are listed, -inf where a user has no more, and a random
    number for each."""
    generator = np.random.default_rng(draw)
    tie_N = generator.random(len(order_N))
    ranked = np.lexsort((tie_N, -order_N, query.task))
    value_BV = np.full((len(query), int(query.lengths.max(initial=0))), -np.inf)
    value_BV[query.task, query.position] = query.value[ranked]
    return value_BV, generator.random(value_BV.shape)


def _by_value(value_BV: Float64Array, _: Float64Array, k: int) -> tuple[Float64Array, Float64Array]:
    """Return (B,) precision and mean average precision by values."""
    if value_BV.shape[1] < k:
        return (np.full(len(value_BV), np.nan),) * 2
    best_BV = -np.sort(-value_BV, axis=1)
    least_B1 = best_BV[:, k - 1 : k]
    left_B1 = (best_BV[:, :k] == least_B1).sum(axis=1, keepdims=True)
    listed_BK = value_BV[:, :k]
    level_BK = listed_BK == least_B1
    hit_BK = (listed_BK > least_B1) | (level_BK & (np.cumsum(level_BK, axis=1) <= left_B1))
    precise_BK = np.cumsum(hit_BK, axis=1) / np.arange(1, k + 1)
    enough_B = np.where(np.isfinite(least_B1[:, 0]), 0.0, np.nan)
    precision_B: Float64Array = hit_BK.mean(axis=1) + enough_B
    average_B: Float64Array = (precise_BK * hit_BK).sum(axis=1) / k + enough_B
    return precision_B, average_B
