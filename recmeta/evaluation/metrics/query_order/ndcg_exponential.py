"""nDCG of ordering each user's own query rows, with exponential gain."""

from recmeta.evaluation.metric import OrderMetric
from recmeta.evaluation.metrics.query_order.ndcg import ndcg
from recmeta.evaluation.predictor import Scores
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Ragged


def _of(order_N: Scores, query: Ragged, k: int, lowest: float) -> Float64Array:
    return ndcg(order_N, query, k, "exponential", lowest)


METRIC = OrderMetric(label="ndcg@{k}_exp", of=_of)
