import dataclasses
import json
import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from evaluation_tasks import low_rank_tasks, make_spec, make_tasks

from recmeta.errors import UserError
from recmeta.evaluation.baselines.averages.global_mean import GlobalMean
from recmeta.evaluation.baselines.averages.popularity import Popularity
from recmeta.evaluation.evaluate import EvaluationConfig, evaluate
from recmeta.evaluation.fit_baselines import fit_baselines
from recmeta.evaluation.measuring import catalogue_metrics
from recmeta.evaluation.measuring.catalogue_ranking import Relevant
from recmeta.evaluation.measuring.curve import choose_cohort
from recmeta.evaluation.metric import (
    CatalogueMetric,
    ErrorMetric,
    ExposureMetric,
    OrderMetric,
)
from recmeta.evaluation.predictor import Predictor, Scores
from recmeta.evaluation.result import Evaluation
from recmeta.reporting import markdown
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.item_history import ItemHistory
from recmeta.tasks.task_set import Ragged, Tasks

NAMES = (
    "global-mean",
    "user-median",
    "item-mean",
    "item-mean-user-bias",
    "popularity",
    "mf-fold-in",
    "item-knn",
)
CONFIG = EvaluationConfig(num_resamples=200, num_negatives=10)
SPEC = make_spec(40)
TEST = low_rank_tasks(50, 40, 30, 20, seed=9)


def popularity_of(count_I: IntArray) -> Popularity:
    """Return a popularity that so many users of each item make."""
    item = np.repeat(np.arange(len(count_I)), count_I).astype(np.int32)
    return Popularity(ItemHistory(time=None, item=item, num_items=len(count_I)))


class Broken:
    """Gives no value for the first user of what it is shown."""

    name = "broken"
    predicts_values = True

    def score_query(self, tasks: Tasks) -> Float64Array:
        return np.where(tasks.query.task == 0, np.nan, 3.0)

    def score_items(self, tasks: Tasks) -> Float64Array:
        scores = np.tile(np.arange(40.0), (len(tasks), 1))
        scores[0] = np.nan
        return scores


@pytest.fixture(scope="module")
def predictors() -> dict[str, Predictor]:
    train, dev = low_rank_tasks(80, 40, 30, 20, seed=0), low_rank_tasks(20, 40, 30, 20, seed=1)
    return fit_baselines(SPEC, train, dev, seed=0, names=NAMES)


@pytest.fixture(scope="module")
def evaluation(predictors: dict[str, Predictor]) -> Evaluation:
    return evaluate(predictors, TEST, SPEC, CONFIG)


def copied(thing: Any) -> Any:
    """Return a copy as another process would have it."""
    return pickle.loads(pickle.dumps(thing))


def elsewhere(make: Callable[[], Callable[[Any], Any]], keys: Iterable[Any]) -> Iterator[Any]:
    """Do the units of work as another process does, with some keys read ahead."""
    function = copied(make)()
    return iter([copied(function(copied(key))) for key in keys])


def test_predictors_are_measured_elsewhere_with_the_same_result(
    predictors: dict[str, Predictor], evaluation: Evaluation
) -> None:
    config = dataclasses.replace(CONFIG, batch_size=7)
    found = evaluate(predictors, TEST, SPEC, config, run=elsewhere)
    assert found.to_dict() == evaluate(predictors, TEST, SPEC, config).to_dict()
    assert found.metrics["item-knn"] == pytest.approx(evaluation.metrics["item-knn"])


def test_metrics_have_names_means_and_intervals(evaluation: Evaluation) -> None:
    found = evaluation.metrics["mf-fold-in"]
    assert {"mae", "rmse", "ndcg@5", "ndcg@5_exp", "full_recall@10", "sampled_mrr@5"} <= set(found)
    assert "mae" not in evaluation.metrics["popularity"]
    assert found["mae"] == pytest.approx(evaluation.per_user["mf-fold-in"]["mae"].mean())
    interval = evaluation.intervals["mf-fold-in"]["mae"]
    assert interval.ci_low < interval.mean < interval.ci_high
    assert interval.num_users == 50
    assert evaluation.relevant_from == pytest.approx(3.4)
    assert found["mae"] < evaluation.metrics["global-mean"]["mae"]
    assert set(evaluation.per_user_of("mae")) == set(NAMES) - {"popularity"}


def test_a_predictor_that_cannot_tell_items_apart_ranks_nothing(evaluation: Evaluation) -> None:
    assert evaluation.metrics["global-mean"]["full_recall@5"] == 0.0
    assert evaluation.metrics["global-mean"]["sampled_hit@5"] < 0.7  # more liked than candidates


def test_the_curve_keeps_its_users_and_falls_for_who_adapts(evaluation: Evaluation) -> None:
    curve = evaluation.curve
    assert (curve.metric, curve.shots, curve.num_users) == ("mae", CONFIG.shots, 50)
    assert curve.note is None
    assert {i.num_users for points in curve.points.values() for i in points} == {50}
    means = [i.mean for i in curve.points["mf-fold-in"]]
    assert means[-1] < means[0] - 0.1
    assert len({i.mean for i in curve.points["item-mean"]}) == 1
    assert means[-1] == pytest.approx(evaluation.metrics["mf-fold-in"]["mae"])


def test_the_curve_of_lists_stands_beside_that_of_errors(
    predictors: dict[str, Predictor], evaluation: Evaluation
) -> None:
    curve = evaluation.list_curve
    assert (curve.metric, curve.lower_is_better) == ("full_ndcg@10", False)
    assert (curve.shots, curve.num_users, curve.note) == (CONFIG.shots, 50, None)
    assert set(curve.points) == set(NAMES)
    last = curve.points["item-knn"][-1]
    assert last.mean == pytest.approx(evaluation.metrics["item-knn"]["full_ndcg@10"])
    # With nothing to go by it lists what most liked, and answers make that better.
    means = [i.mean for i in curve.points["item-knn"]]
    assert curve.points["popularity"][0].mean < means[0] < means[-1]
    config = dataclasses.replace(CONFIG, list_curve_users=20, shots=(0, 5))
    some = evaluate(predictors, TEST, SPEC, config, in_list_curve=["popularity"]).list_curve
    assert (some.num_users, some.note) == (20, "20 users are drawn of 50.")
    assert set(some.points) == {"popularity"}


def test_who_takes_too_long_for_lists_has_errors_alone(predictors: dict[str, Predictor]) -> None:
    two = {name: predictors[name] for name in ("item-mean", "item-knn")}
    found = evaluate(two, TEST, SPEC, CONFIG, without_lists=["item-mean"])
    assert set(found.per_user_of("full_ndcg@10")) == {"item-knn"}
    assert set(found.per_user_of("mae")) == set(found.curve.points) == set(two)
    assert set(found.list_curve.points) == {"item-knn"}
    assert "full_coverage@10" not in found.metrics["item-mean"]
    told = markdown.lists({**found.to_dict(), "candidate": "item-knn"})
    assert "Ranking so many items would take item-mean too long." in told
    table = found.per_user_table()
    assert table["full_ndcg@10"].null_count >= len(TEST)


def test_the_batch_size_changes_nothing(
    predictors: dict[str, Predictor], evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_metrics, "MAX_SCORES", 40 * 7)
    again = evaluate(predictors, TEST, SPEC, CONFIG)
    for name, found in evaluation.per_user.items():
        for metric, values in found.items():
            np.testing.assert_allclose(again.per_user[name][metric], values, atol=1e-9)
    assert again.metrics["item-mean"]["full_coverage@5"] == pytest.approx(
        evaluation.metrics["item-mean"]["full_coverage@5"]
    )


def test_it_is_json_and_a_table(evaluation: Evaluation) -> None:
    plain = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert plain["metrics"]["item-mean"]["mae"] == evaluation.metrics["item-mean"]["mae"]
    shown = plain["intervals"]["item-mean"]["full_coverage@5"]
    assert shown["ci_low"] < shown["mean"] < shown["ci_high"]
    assert len(plain["adaptation_curve"]["points"]["item-mean"]) == len(CONFIG.shots)
    table = evaluation.per_user_table()
    assert table.column_names[:3] == ["user_id", "state", "predictor"]
    assert table.num_rows == len(NAMES) * 50
    rows = dict(zip(table["predictor"].to_pylist(), table["mae"].to_pylist(), strict=True))
    assert rows["popularity"] is None
    assert rows["item-mean"] == pytest.approx(evaluation.per_user["item-mean"]["mae"][-1])


def test_states_are_reported_apart(predictors: dict[str, Predictor]) -> None:
    state = np.where(np.arange(50) < 20, "warm", "user_cold")
    found = evaluate(predictors, dataclasses.replace(TEST, state=state), SPEC, CONFIG)
    assert list(found.by_state) == ["user_cold", "warm"]
    mean = found.by_state["warm"]["item-mean"]["mae"]
    assert mean.num_users == 20
    assert mean.mean == pytest.approx(found.per_user["item-mean"]["mae"][:20].mean())
    assert found.to_dict()["num_users_by_state"] == {"user_cold": 30, "warm": 20}


def test_an_incomplete_predictor_shows_in_its_number_of_users() -> None:
    found = evaluate({"broken": Broken()}, TEST, SPEC, CONFIG)
    assert found.intervals["broken"]["mae"].num_users == 49
    assert np.isnan(found.per_user["broken"]["full_ndcg@5"][0])


def test_implicit_feedback_is_judged_by_ranking() -> None:
    train = make_tasks([{0: 1.0, 1: 1.0}] * 3, [{2: 1.0}] * 3)
    test = make_tasks([{0: 1.0}, {3: 1.0}], [{1: 1.0}, {4: 1.0}])
    spec = make_spec(5, "implicit", (1.0, 1.0))
    found = evaluate(
        {"popularity": Popularity.fit(train, 5)},
        test,
        spec,
        EvaluationConfig(ks=(1, 2), shots=(0, 1), num_resamples=50, num_negatives=2),
    )
    assert (found.primary_metric, found.lower_is_better) == ("full_ndcg@2", False)
    metrics = found.per_user["popularity"]
    assert "mae" not in metrics
    assert "ndcg@1" not in metrics
    # User 0: 0 is excluded, 1 and 2 tie and the relevant one goes behind. User 1: 4 is unpopular.
    np.testing.assert_array_equal(metrics["full_hit@1"], [0.0, 0.0])
    np.testing.assert_array_equal(metrics["full_hit@2"], [1.0, 0.0])
    assert found.metrics["popularity"]["full_coverage@2"] == pytest.approx(3 / 5)
    assert "full_popularity@2" not in found.metrics["popularity"]
    assert [i.mean for i in found.curve.points["popularity"]][1] == pytest.approx(
        found.metrics["popularity"]["full_ndcg@2"]
    )


def test_the_cohort_is_lowered_to_where_there_are_enough() -> None:
    lengths = np.array([20] * 10 + [5] * 25 + [0] * 5)
    cohort, shots = choose_cohort(lengths, (0, 1, 5, 20))
    assert (len(cohort), shots) == (35, (0, 1, 5))
    assert choose_cohort(np.array([20] * 40), (20, 0))[1] == (0, 20)
    assert choose_cohort(np.array([2, 1]), (0, 1, 2))[1] == (0, 1)
    assert choose_cohort(np.array([0, 0]), (5, 1))[1] == ()
    tasks = make_tasks([{0: 3.0}] * 31, [{1: 3.0}] * 31)
    found = evaluate({"global-mean": GlobalMean(3.0, 40)}, tasks, SPEC, CONFIG)
    assert found.curve.shots == (0, 1)
    assert found.curve.note is not None
    assert "Only 0 of 31 users have 20 support rows" in found.curve.note


def test_there_may_be_nothing_for_a_curve() -> None:
    popularity = {"popularity": popularity_of(np.arange(40))}
    assert evaluate(popularity, TEST, SPEC, CONFIG).curve.points == {}
    shots = dataclasses.replace(CONFIG, shots=(30,))
    curve = evaluate({"global-mean": GlobalMean(3.0, 40)}, TEST, SPEC, shots).curve
    assert (curve.shots, curve.num_users, curve.points) == ((), 0, {"global-mean": ()})
    assert curve.note == "Only 0 of 50 users have 30 support rows: no curve."


def test_the_candidates_stay_the_same_along_the_curve() -> None:
    # Popularity ignores the support, so hiding support rows must not change its ranking metrics.
    test = make_tasks([{0: 1.0, 1: 1.0, 2: 1.0}] * 4, [{3: 1.0}] * 4)
    found = evaluate(
        {"popularity": popularity_of(np.arange(9, 0, -1))},
        test,
        make_spec(9, "implicit", (1.0, 1.0)),
        EvaluationConfig(shots=(0, 1, 3), num_resamples=20),
    )
    assert [i.mean for i in found.curve.points["popularity"]] == [1.0, 1.0, 1.0]


def test_what_cannot_be_evaluated_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="no tasks"):
        evaluate({"broken": Broken()}, TEST.take(np.arange(0)), SPEC, CONFIG)
    with pytest.raises(UserError, match="no predictors"):
        evaluate({}, TEST, SPEC, CONFIG)
    with pytest.raises(UserError, match="shots has -1"):
        EvaluationConfig(shots=(-1, 2))


def _largest_error(predicted_N: Scores, query: Ragged) -> Float64Array:
    found = np.zeros(len(query))
    with np.errstate(invalid="ignore"):  # one predictor says NaN
        np.maximum.at(found, query.task, np.abs(predicted_N - query.value))
    return found


def _is_first(rank_R: IntArray, relevant: Relevant, k: int) -> Float64Array:
    found = np.zeros(relevant.num_tasks)
    found[relevant.task[rank_R == 1]] = 1.0
    return found


LARGEST = ErrorMetric(label="largest", of=_largest_error)
ODD = OrderMetric(label="rows@{k}", of=lambda order_N, query, k, _: np.minimum(query.lengths, k))
FIRST = CatalogueMetric(label="first@{k}", of=_is_first)
LISTED = ExposureMetric(label="listed@{k}", of=lambda lists: float(lists.listed_I.sum()))


def test_metrics_of_every_kind_stand_beside_the_standard_ones() -> None:
    names = tuple(f"{__name__}:{name}" for name in ("LARGEST", "ODD", "FIRST", "LISTED"))
    predictors = {"global-mean": GlobalMean(3.0, 40), "broken": Broken()}
    plain = evaluate(predictors, TEST, SPEC, CONFIG)
    found = evaluate(predictors, TEST, SPEC, dataclasses.replace(CONFIG, metrics=names))
    assert found.further["largest"]
    assert not found.further["full_first@5"]
    own = found.per_user["global-mean"]
    expected = _largest_error(np.full(len(TEST.query.item), 3.0), TEST.query)
    np.testing.assert_array_equal(own["largest"], expected)
    assert (own["rows@5"] == np.minimum(TEST.query.lengths, 5)).all()
    assert found.metrics["global-mean"]["full_listed@5"] == 5 * len(TEST)
    np.testing.assert_array_equal(own["full_first@5"], own["full_hit@5"] * own["full_mrr@5"] == 1)
    assert {"largest", "rows@5", "full_first@10"} <= set(found.per_user_table().column_names)
    for name, metrics in plain.per_user.items():
        for metric, values_U in metrics.items():
            np.testing.assert_array_equal(found.per_user[name][metric], values_U)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("mea", r"no metric 'mea'\. Did you mean 'mae'"),
        ("numpy:ndarray", "must be an ErrorMetric"),
        (f"{__name__}:CALLED_AS_ANOTHER", "has the same name as 'mae'"),
    ],
)
def test_a_metric_that_is_none_is_refused(metric: str, message: str) -> None:
    predictors = {"global-mean": GlobalMean(3.0, 40)}
    with pytest.raises(UserError, match=message):
        evaluate(predictors, TEST, SPEC, EvaluationConfig(metrics=(metric,)))


def test_a_metric_of_ratings_is_refused_for_clicks() -> None:
    test = make_tasks([{0: 1.0}], [{1: 1.0}])
    spec = make_spec(5, "implicit", (1.0, 1.0))
    config = EvaluationConfig(metrics=("mae",), shots=(0,))
    with pytest.raises(UserError, match="'mae' is for feedback of the kind rating"):
        evaluate({"popularity": popularity_of(np.arange(5))}, test, spec, config)


CALLED_AS_ANOTHER = ErrorMetric(label="mae", of=_largest_error)
