import math

import numpy as np
import pytest
from evaluation_tasks import NUM_ITEMS, make_tasks, tasks_strategy
from hypothesis import given
from hypothesis import strategies as st

from recmeta.evaluation.measuring.catalogue_metrics import ranking_metrics
from recmeta.evaluation.measuring.catalogue_ranking import (
    Relevant,
    candidate_scores,
    ranks_in_catalogue,
    ranks_in_sample,
    sample_negatives,
    top_items,
)
from recmeta.tasks.task_set import Tasks


def test_by_hand() -> None:
    # Support item 0 is the best scored, and no candidate. Candidates in order: 1, 2, 3, 4.
    tasks = make_tasks([{0: 5.0}], [{1: 2.0, 2: 4.0, 4: 5.0, 0: 5.0}])
    scores, complete = candidate_scores(np.array([[9.0, 5.0, 4.0, 3.0, 2.0]]), tasks)
    relevant = Relevant.of(tasks, 4.0, 5)
    assert complete.all()
    assert relevant.item.tolist() == [2, 4]
    ranks = ranks_in_catalogue(scores, relevant, 4)
    assert ranks.tolist() == [2, 4]
    found = {name: value[0] for name, value in ranking_metrics(ranks, relevant, (1, 3)).items()}
    assert found["precision@3"] == pytest.approx(1 / 3)
    assert found["recall@3"] == pytest.approx(1 / 2)
    assert (found["hit@1"], found["hit@3"]) == (0.0, 1.0)
    assert (found["mrr@1"], found["mrr@3"]) == (0.0, 0.5)
    ideal = 1 + 1 / math.log2(3)
    assert found["ndcg@3"] == pytest.approx(1 / math.log2(3) / ideal)


def test_a_user_with_nothing_relevant_is_undefined() -> None:
    tasks = make_tasks([{}, {}], [{1: 1.0}, {1: 5.0}])
    relevant = Relevant.of(tasks, 4.0, 3)
    scores, _ = candidate_scores(np.array([[1.0, 2.0, 3.0]] * 2), tasks)
    for value in ranking_metrics(ranks_in_catalogue(scores, relevant, 2), relevant, (2,)).values():
        np.testing.assert_array_equal(np.isnan(value), [True, False])


def test_ties_are_broken_against_the_relevant_item() -> None:
    tasks = make_tasks([{}], [{0: 5.0, 1: 5.0}])
    relevant = Relevant.of(tasks, 4.0, 5)
    scores, _ = candidate_scores(np.zeros((1, 5)), tasks)
    assert ranks_in_catalogue(scores, relevant, 5).tolist() == [4, 5]


def test_a_score_that_is_not_finite_flaws_the_user() -> None:
    tasks = make_tasks([{}, {}, {}], [{0: 5.0}] * 3)
    scores = np.array([[1.0, 2.0], [np.nan, 2.0], [1.0, -np.inf]])
    assert candidate_scores(scores, tasks)[1].tolist() == [True, False, False]
    assert scores[2, 1] == -np.inf  # the predictor's own array is left as it was


def slow_metrics(
    ordered: list[int], relevant: set[int], k: int
) -> tuple[float, float, float, float, float]:
    if not relevant:
        return (math.nan,) * 5
    hits = [place for place, item in enumerate(ordered[:k], 1) if item in relevant]
    ideal = sum(1 / math.log2(1 + place) for place in range(1, min(k, len(relevant)) + 1))
    return (
        len(hits) / k,
        len(hits) / len(relevant),
        float(bool(hits)),
        1 / hits[0] if hits else 0.0,
        sum(1 / math.log2(1 + place) for place in hits) / ideal,
    )


@given(tasks_strategy(), st.integers(1, NUM_ITEMS + 2), st.integers(0, 9), st.integers(0, 2**20))
def test_metrics_equal_a_slow_loop_over_users(
    tasks: Tasks, k: int, num_negatives: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 4, (len(tasks), NUM_ITEMS)).astype(np.float64)  # many ties
    negatives = sample_negatives(tasks, NUM_ITEMS, num_negatives, rng)
    scores, _ = candidate_scores(raw, tasks)
    relevant = Relevant.of(tasks, 4.0, NUM_ITEMS)

    full, sampled = [], []
    for b in range(len(tasks)):
        one = tasks.take(np.array([b]))
        seen = set(one.support.item.tolist())
        met = seen | set(one.query.item.tolist())
        liked = set(one.query.item[one.query.value >= 4.0].tolist()) - seen
        drawn = negatives[b][negatives[b] >= 0].tolist()
        assert len(set(drawn)) == len(drawn) == min(num_negatives, NUM_ITEMS - len(met))
        assert not set(drawn) & met

        def ordered(items: set[int], b: int = b, liked: set[int] = liked) -> list[int]:
            return sorted(items, key=lambda i: (-raw[b, i], i in liked))

        full.append(slow_metrics(ordered(set(range(NUM_ITEMS)) - seen), liked, k))
        sampled.append(slow_metrics(ordered(liked | set(drawn)), liked, k))

    for ranks, expected in (
        (ranks_in_catalogue(scores, relevant, k), full),
        (ranks_in_sample(scores, relevant, negatives), sampled),
    ):
        found = np.stack(list(ranking_metrics(ranks, relevant, (k,)).values()), axis=1)
        np.testing.assert_allclose(found, np.array(expected), rtol=1e-9)


@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**20))
def test_top_items_prefer_the_lower_number_among_equals(
    num_tasks: int, num_items: int, k: int, seed: int
) -> None:
    scores = np.random.default_rng(seed).integers(0, 3, (num_tasks, num_items)).astype(np.float64)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(top_items(scores, k), expected)


def test_sampled_negatives_do_not_depend_on_the_batch_size() -> None:
    tasks = make_tasks([{0: 1.0}] * 5, [{1: 1.0}] * 5)
    whole = sample_negatives(tasks, 50, 10, np.random.default_rng(3))
    generator = np.random.default_rng(3)
    parts = [sample_negatives(batch, 50, 10, generator) for batch in tasks.batches(2)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
