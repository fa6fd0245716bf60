import itertools
import math

import numpy as np
import pytest
from evaluation_tasks import tasks_strategy
from hypothesis import given
from hypothesis import strategies as st

from recmeta.evaluation.metrics.errors.mae import mae
from recmeta.evaluation.metrics.errors.rmse import rmse
from recmeta.evaluation.metrics.query_order.ndcg import ndcg
from recmeta.tasks.task_set import Ragged, Tasks


def query(*values: list[float]) -> Ragged:
    return Ragged.from_lists([list(range(len(v))) for v in values], list(values))


def test_errors_by_hand() -> None:
    rows = query([1.0, 5.0], [4.0], [])
    predicted = np.array([2.0, 2.0, 4.5])
    np.testing.assert_allclose(mae(predicted, rows), [2.0, 0.5, np.nan])
    np.testing.assert_allclose(rmse(predicted, rows), [math.sqrt(5.0), 0.5, np.nan])


def test_a_missing_prediction_leaves_the_user_undefined() -> None:
    rows = query([1.0, 5.0], [4.0, 2.0])
    predicted = np.array([np.nan, 2.0, 4.0, 2.0])
    for values in (mae(predicted, rows), rmse(predicted, rows), ndcg(predicted, rows, 2)):
        np.testing.assert_array_equal(np.isnan(values), [True, False])


def test_ndcg_by_hand() -> None:
    rows = query([3.0, 5.0, 4.0])
    predicted = np.array([0.9, 0.5, 0.1])  # order of values: 3, 5, 4
    second = 1 / math.log2(3)
    assert ndcg(predicted, rows, 2)[0] == pytest.approx((3 + 5 * second) / (5 + 4 * second))
    assert ndcg(predicted, rows, 2, "exponential")[0] == pytest.approx(
        (7 + 31 * second) / (31 + 15 * second)
    )
    assert ndcg(predicted, rows, 1)[0] == pytest.approx(3 / 5)


def test_equal_predictions_gain_nothing_from_the_order_of_the_rows() -> None:
    best_first, worst_first = query([5.0, 3.0, 1.0]), query([1.0, 3.0, 5.0])
    same = np.zeros(3)
    assert ndcg(same, best_first, 1)[0] == pytest.approx(3 / 5)
    assert ndcg(same, best_first, 3)[0] == pytest.approx(ndcg(same, worst_first, 3)[0])


def test_ndcg_is_undefined_without_gain_and_finite_on_any_scale() -> None:
    assert np.isnan(ndcg(np.zeros(2), query([0.0, 0.0]), 5)[0])
    huge = query([5000.0, 4999.0])
    backwards = np.array([0.0, 1.0])
    second = 1 / math.log2(3)
    assert ndcg(backwards, huge, 5, "exponential")[0] == pytest.approx(
        (0.5 + second) / (1 + 0.5 * second)
    )
    signed = query([-10.0, 10.0])
    assert ndcg(backwards, signed, 1, "linear", -10.0)[0] == 1.0
    assert ndcg(-backwards, signed, 1, "linear", -10.0)[0] == 0.0


def slow_ndcg(predicted: list[float], values: list[float], k: int, exponential: bool) -> float:
    """The mean over all orders that the predictions allow."""
    gain = [2**v - 1 if exponential else v for v in values]

    def dcg(order: tuple[int, ...]) -> float:
        return sum(gain[row] / math.log2(2 + place) for place, row in enumerate(order[:k]))

    orders = list(itertools.permutations(range(len(values))))
    allowed = [
        o for o in orders if all(predicted[a] >= predicted[b] for a, b in itertools.pairwise(o))
    ]
    if not values:
        return math.nan
    return float(np.mean([dcg(o) for o in allowed])) / max(dcg(o) for o in orders)


@given(tasks_strategy(), st.integers(1, 6), st.booleans(), st.data())
def test_metrics_equal_a_slow_loop_over_users(
    tasks: Tasks, k: int, exponential: bool, data: st.DataObject
) -> None:
    rows = tasks.query
    num_rows = len(rows.item)
    scores = st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.25]), min_size=num_rows, max_size=num_rows)
    predicted = np.array(data.draw(scores), np.float64)
    expected = []
    for start, end in itertools.pairwise(rows.offsets):
        p, v = predicted[start:end].tolist(), rows.value[start:end].tolist()
        errors = [abs(a - b) for a, b in zip(p, v, strict=True)]
        expected.append(
            (
                sum(errors) / len(v) if v else math.nan,
                math.sqrt(sum(e**2 for e in errors) / len(v)) if v else math.nan,
                slow_ndcg(p, v, k, exponential),
            )
        )
    gain = "exponential" if exponential else "linear"
    found = (mae(predicted, rows), rmse(predicted, rows), ndcg(predicted, rows, k, gain))
    np.testing.assert_allclose(np.stack(found, axis=1), np.array(expected), rtol=1e-9)
