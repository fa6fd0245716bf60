"""nDCG of ordering each user's own query rows, with exponential gain."""

from recmeta.evaluation.metric import OrderMetric
from recmeta.evaluation.metrics.query_order.ndcg import ndcg

METRIC = OrderMetric(
    label="ndcg@{k}_exp",
    of=lambda order_N, query, k, lowest: ndcg(order_N, query, k, "exponential", lowest),
)
