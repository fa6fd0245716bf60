"""All metrics of ranking a catalogue at once.

Legend: B users (tasks), R relevant items of all users.
"""

from collections.abc import Sequence

import numpy as np

from recmeta.evaluation.measuring.catalogue_ranking import (
    Relevant,
    candidate_scores,
    ranks_in_catalogue,
)
from recmeta.evaluation.metric import CatalogueMetric
from recmeta.evaluation.metrics.catalogue import catalogue_ndcg, hit, mrr, precision, recall
from recmeta.evaluation.predictor import Predictor
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Tasks

USERS_AT_ONCE = 256
MAX_SCORES = 2**22  # the most scores held at once, each in about five copies
STANDARD = (precision.METRIC, recall.METRIC, hit.METRIC, mrr.METRIC, catalogue_ndcg.METRIC)


def ranking_metrics(
    rank_R: IntArray,
    relevant: Relevant,
    ks: Sequence[int],
    metrics: Sequence[CatalogueMetric] = STANDARD,
) -> dict[str, Float64Array]:
    """Return (B,) metrics by name, such as `ndcg@10`, at each cut-off k, or NaN for a user without
    relevant items."""
    return {
        metric.label.format(k=k): metric.of(rank_R, relevant, k) for k in ks for metric in metrics
    }


def users_at_once(num_items: int, most: int = USERS_AT_ONCE) -> int:
    """Return the number of users to rank together, so that memory does not grow with the catalogue:
    they have at most 2**22 scores, 32 MiB in float64, of which about five copies are held."""
    return max(1, min(most, MAX_SCORES // num_items))


def ranking_of(
    predictor: Predictor, tasks: Tasks, num_items: int, k: int, relevant_from: float = -np.inf
) -> dict[str, Float64Array]:
    """Return (B,) ranking metrics at k by name. Query items valued at `relevant_from` or more are
    relevant. A metric is NaN for a user without relevant items, or with a score that is not
    finite."""
    parts: list[dict[str, Float64Array]] = []
    for batch in tasks.batches(users_at_once(num_items)):
        scores_BI, complete_B = candidate_scores(predictor.score_items(batch), batch)
        relevant = Relevant.of(batch, relevant_from, num_items)
        rank_R = ranks_in_catalogue(scores_BI, relevant, k)
        found = ranking_metrics(rank_R, relevant, (k,))
        parts.append({name: np.where(complete_B, v, np.nan) for name, v in found.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
