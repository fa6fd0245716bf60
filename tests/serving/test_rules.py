"""Every rule, alone and with others: lists stay full where candidates suffice, and true to it."""

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recmeta.errors import UserError
from recmeta.metalearn.heads.uncertainty import LEVELS, Uncertainty
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.lists import ListMaker, Lists, relative_likelihoods
from recmeta.serving.new_user_tasks import tasks_for_new_users
from recmeta.serving.ranking import AdaptedUsers, ScoringConfig, adapt_users
from recmeta.serving.rearrange import Arrangement, Cap
from recmeta.serving.rules import ItemFacts, Rules, categories
from recmeta.tasks.arrays import BoolArray, Float32Array, IntArray
from recmeta.tasks.task_set import Tasks

NUM_ITEMS, TOP_K = 30, 6


@pytest.fixture(scope="module")
def priced(model: Model) -> Model:
    """The model with items of five kinds, with a year and perhaps sold out, and sure of some."""
    items = model.catalogue.items
    numbers = np.arange(NUM_ITEMS)
    attributes = items.attributes.append_column("shelf", pa.array([f"s{n % 5}" for n in numbers]))
    attributes = attributes.append_column("year", pa.array(1990.0 + numbers))
    status = pa.array([["sold out", "old"] if n % 3 == 0 else ["new"] for n in numbers])
    attributes = attributes.append_column("status", status)
    found = model.on(dataclasses.replace(items, attributes=attributes), model.catalogue.statistics)
    found.uncertainty = Uncertainty(
        constant=0.0,
        support=0.0,
        popularity=-0.5,
        middle=0.0,
        variance=0.0,
        spread=None,
        factors=tuple(LEVELS),
        num_users=9,
    )
    return found


@pytest.fixture(scope="module")
def tasks(model: Model) -> Tasks:
    ids = model.catalogue.items.item_id
    users = [f"user{n:02d}" for n in range(12) for _ in range(n)]
    seen = [(7 * n + place) % NUM_ITEMS for n in range(12) for place in range(n)]
    events = {"user_id": [*users, "none"], "value": [3.0] * len(users) + [None]}
    item_id = [*ids.take(pa.array(seen)).to_pylist(), None]
    return tasks_for_new_users(model, pa.table({**events, "item_id": item_id}))[0]


def lists(model: Model, tasks: Tasks, facts: ItemFacts | None = None, **rules: Any) -> Lists:
    config = ScoringConfig(top_k=TOP_K, rules=Rules(**rules), item_block=11)
    return ListMaker(Scorer.of(model), config, facts).make(
        adapt_users(Scorer.of(model), tasks), tasks
    )


def numbers(model: Model, *ids: int) -> tuple[str, ...]:
    return tuple(model.catalogue.items.item_id.take(pa.array(ids, pa.int64())).to_pylist())


def test_without_rules_lists_are_the_rankers(priced: Model, tasks: Tasks) -> None:
    plain = lists(priced, tasks)
    assert (plain.item_Bk >= 0).all()
    assert not plain.is_popular_Bk.any()
    as_it_was = lists(priced, tasks, max_per_category={"shelf": TOP_K})
    assert as_it_was.item_Bk.tolist() == plain.item_Bk.tolist()
    np.testing.assert_allclose(as_it_was.score_Bk, plain.score_Bk, atol=1e-5)


def test_denied_allowed_unavailable_and_old_items(priced: Model, tasks: Tasks) -> None:
    best = int(lists(priced, tasks).item_Bk[0, 0])
    denied = lists(priced, tasks, ItemFacts(denied=numbers(priced, best, 3)))
    assert not np.isin(denied.item_Bk, [best, 3]).any()
    assert (denied.item_Bk >= 0).all()
    allowed = lists(priced, tasks, ItemFacts(allowed=numbers(priced, 1, 2, 3)))
    assert set(np.unique(allowed.item_Bk)) <= {-1, 1, 2, 3}
    sold = lists(priced, tasks, unavailable={"status": ("sold out",)})
    assert (sold.item_Bk % 3 != 0).all()
    young = lists(priced, tasks, at_least={"year": 2005.0})
    assert ((young.item_Bk >= 15) | (young.item_Bk == -1)).all()
    late = lists(priced, tasks, ItemFacts(too_old=numbers(priced, *range(10))))
    assert (late.item_Bk >= 10).all()


@pytest.mark.parametrize(
    "rules", [{}, {"max_per_category": {"shelf": 3}, "candidates": 4}, {"min_interactions": 99}]
)
def test_what_each_user_may_have_holds_whoever_makes_the_list(
    priced: Model, tasks: Tasks, rules: dict[str, Any]
) -> None:
    config = ScoringConfig(top_k=TOP_K, rules=Rules(**rules), item_block=11, user_batch=5)
    maker = ListMaker(Scorer.of(priced), config)
    users = adapt_users(maker.scorer, tasks)
    whole = maker.make(users, tasks)
    allowed_BI = np.random.default_rng(0).random((len(tasks), NUM_ITEMS)) < 0.5
    allowed_BI[0] = True
    found = maker.make(dataclasses.replace(users, allowed_BI=allowed_BI), tasks)
    assert found.item_Bk[0].tolist() == whole.item_Bk[0].tolist()
    for row, item_k in enumerate(found.item_Bk):
        assert allowed_BI[row][item_k[item_k >= 0]].all()
        assert (item_k >= 0).sum() == min(TOP_K, (allowed_BI[row] & ~seen(tasks, row)).sum())
    assert found.is_popular_Bk[:, 0].all() == ("min_interactions" in rules)


def test_a_short_list_has_nothing_past_its_end(priced: Model, tasks: Tasks) -> None:
    """Nor is it looked for again and again what is not there."""
    config = ScoringConfig(top_k=10**9, rules=Rules(min_interactions=1, candidates=2))
    maker = ListMaker(Scorer.of(priced), config)
    users = adapt_users(maker.scorer, tasks)
    worst_B = maker.make(users, tasks, NUM_ITEMS).item_Bk[np.arange(len(tasks)), -12]
    allowed_BI = np.arange(NUM_ITEMS) == worst_B[:, None]
    lengths: list[int] = []
    best = maker.ranker.best

    def counted(users: AdaptedUsers, top_k: int | None = None) -> tuple[IntArray, Float32Array]:
        lengths.append(top_k or 0)
        return best(users, top_k)

    maker.ranker.best = counted  # type: ignore[method-assign]
    limited = dataclasses.replace(users, allowed_BI=allowed_BI)
    for top_k in (3, 10**9):
        found = maker.make(limited, tasks, top_k)
        assert found.item_Bk.shape[1] == min(top_k, NUM_ITEMS)
        assert found.item_Bk[:, 0].tolist() == worst_B.tolist()
        assert (found.item_Bk[:, 1:] == -1).all()
        assert (found.worth_Bk[:, 1:] == -np.inf).all()
        assert (found.score_Bk[:, 1:] == priced.value_range[0]).all()
        assert (relative_likelihoods(found.worth_Bk)[:, 0] == 1).all()
    assert lengths == [3, NUM_ITEMS]


def test_few_popular_items_are_arranged_however_many_are_allowed(
    priced: Model, tasks: Tasks
) -> None:
    config = ScoringConfig(top_k=3, rules=Rules(min_interactions=99, candidates=2))
    maker = ListMaker(Scorer.of(priced), config)
    users = adapt_users(maker.scorer, tasks)
    allowed_BI = np.random.default_rng(1).random((len(tasks), NUM_ITEMS)) < 0.7
    limited = dataclasses.replace(users, allowed_BI=allowed_BI)
    found_Bm = maker._popular_unseen(limited, len(tasks))
    assert found_Bm.shape[1] == 2 + 3 + int(tasks.support.lengths.max()) < NUM_ITEMS
    popular = np.argsort(-maker.scorer.lists.count_I.numpy(), kind="stable")
    for row, found_m in enumerate(found_Bm):
        fits = [item for item in popular if allowed_BI[row, item] and not seen(tasks, row)[item]]
        assert found_m[found_m >= 0].tolist() == fits[: len(found_m)]


def seen(tasks: Tasks, row: int) -> BoolArray:
    own = tasks.support.item[tasks.support.task == row]
    return np.isin(np.arange(NUM_ITEMS), own)


@pytest.mark.parametrize("candidates", [1, 8, 100])
def test_caps_hold_and_lists_stay_full(priced: Model, tasks: Tasks, candidates: int) -> None:
    found = lists(priced, tasks, max_per_category={"shelf": 2}, candidates=candidates)
    assert (found.item_Bk >= 0).all()
    for row in found.item_Bk:
        assert np.bincount(row % 5).max() <= 2
    # In the ranker's order: the first item stays first.
    assert found.item_Bk[:, 0].tolist() == lists(priced, tasks).item_Bk[:, 0].tolist()


def test_lists_are_shorter_where_the_caps_leave_nothing(priced: Model, tasks: Tasks) -> None:
    found = lists(priced, tasks, max_per_category={"shelf": 1})
    assert (np.sum(found.item_Bk >= 0, 1) == 5).all(), "there are five shelves"
    assert (found.item_Bk[:, :5] >= 0).all(), "no place is skipped"


def test_an_item_of_several_categories_counts_in_each() -> None:
    cap = Cap(np.array([[0, 1], [0, -1], [1, -1], [-1, -1], [-1, -1]]), 1)
    found = Arrangement(1, 4, (cap,))
    found.fill(np.array([[0, 1, 2, 3, 4]]))
    assert found.item_Bk.tolist() == [[0, 3, 4, -1]]


def test_diversity_is_maximal_marginal_relevance(priced: Model, tasks: Tasks) -> None:
    kind = np.array([[0], [0], [1], [1], [2]])
    found = Arrangement(1, 3, kind_IW=kind, diversity=0.6)
    found.fill(np.arange(5)[None])
    # relevance 1 .8 .6 .4 .2, worth .4 r - .6 likeness: after 0, item 2 (.24), then 4 (.08)
    assert found.item_Bk.tolist() == [[0, 2, 4]]
    light = Arrangement(1, 3, kind_IW=kind, diversity=0.05)
    light.fill(np.arange(5)[None])
    assert light.item_Bk.tolist() == [[0, 1, 2]]

    def spread(model: Model, items: np.ndarray) -> float:
        code_IW, _ = categories(model.catalogue.items, "shelf")
        return float(np.mean([len(set(code_IW[row, 0])) for row in items]))

    plain, diverse = lists(priced, tasks), lists(priced, tasks, diversity=0.7)
    assert (diverse.item_Bk >= 0).all()
    assert spread(priced, diverse.item_Bk) > spread(priced, plain.item_Bk)


def test_places_that_the_model_is_not_sure_of_are_popular_ones(priced: Model, tasks: Tasks) -> None:
    plain = lists(priced, tasks)
    limit = float(np.nanmedian(plain.uncertainty_Bk))
    found = lists(priced, tasks, max_uncertainty=limit)
    assert (found.item_Bk >= 0).all()
    assert found.is_popular_Bk.any()
    assert (found.uncertainty_Bk[~found.is_popular_Bk] <= limit).all()
    assert (found.because_Bk[found.is_popular_Bk] == -1).all()
    nobody = lists(priced, tasks, min_interactions=5)
    few_B = tasks.support.lengths < 5
    assert (nobody.is_popular_Bk.all(1) == few_B).all()
    assert (nobody.is_popular_Bk.any(1) == few_B).all()
    popularity_I = priced.catalogue.statistics.num_users[-1]
    unknown = list(tasks.user_id).index("none")
    assert (
        nobody.item_Bk[unknown].tolist()
        == np.argsort(-popularity_I, kind="stable")[:TOP_K].tolist()
    )


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_one_list_per_user_without_gaps_and_without_what_is_ruled_out(
    priced: Model, tasks: Tasks, data: st.DataObject
) -> None:
    denied = data.draw(st.sets(st.integers(0, NUM_ITEMS - 1), max_size=NUM_ITEMS))
    cap = data.draw(st.none() | st.integers(1, 3))
    sure = data.draw(st.none() | st.floats(0.05, 2))
    found = lists(
        priced,
        tasks,
        ItemFacts(denied=numbers(priced, *sorted(denied))),
        max_per_category={} if cap is None else {"shelf": cap},
        diversity=data.draw(st.sampled_from([0.0, 0.3, 0.9])),
        candidates=data.draw(st.integers(1, 40)),
        max_uncertainty=sure,
        min_interactions=data.draw(st.integers(0, 12)),
    )
    assert len(found.item_Bk) == len(tasks)
    for user, row in enumerate(found.item_Bk):
        listed = row[row >= 0]
        assert (row[: len(listed)] >= 0).all(), "no gap"
        assert len(set(listed)) == len(listed), "no item twice"
        seen = set(tasks.support.item[tasks.support.task == user].tolist())
        assert not set(listed.tolist()) & (denied | seen)
        eligible = np.array(sorted(set(range(NUM_ITEMS)) - denied - seen), np.int64)
        shelves = np.bincount(eligible % 5, minlength=5)
        possible = int(np.minimum(shelves, cap or NUM_ITEMS).sum())
        assert len(listed) == min(TOP_K, possible), "as full as the rules let it be"
        if cap is not None and len(listed):
            assert np.bincount(listed % 5).max() <= cap
    assert np.isfinite(found.score_Bk[found.item_Bk >= 0]).all()


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"max_per_category": {"shelv": 2}}, "Did you mean 'shelf'"),
        ({"at_least": {"shelf": 2.0}}, "is not numeric"),
        ({"unavailable": {"colour": ("red",)}}, "not an attribute of items"),
    ],
)
def test_rules_that_do_not_fit_the_items(
    priced: Model, tasks: Tasks, rules: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        lists(priced, tasks, **rules)


def test_certainty_cannot_be_asked_of_a_model_that_has_none(
    implicit_model: Model,
) -> None:
    config = ScoringConfig(rules=Rules(max_uncertainty=1.0))
    with pytest.raises(UserError, match="does not predict its uncertainty"):
        ListMaker(Scorer.of(implicit_model), config)


@pytest.mark.parametrize(
    "wrong",
    [{"diversity": 1.0}, {"candidates": 0}, {"max_per_category": {"a": 0}}, {"max_age_days": -1}],
)
def test_rules_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=str(next(iter(wrong)))):
        Rules(**wrong)
