"""Blocks, batches and storage change no list; seen items stay out; ties are settled."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch

from recmeta.errors import UserError
from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.lists import ListMaker
from recmeta.serving.new_user_tasks import tasks_for_new_users
from recmeta.serving.ranking import AdaptedUsers, ScoringConfig, adapt_users, rank
from recmeta.tasks.task_set import Tasks, TaskSet

NUM_ITEMS = 30


@pytest.fixture(scope="module")
def tasks(model: Model, task_set: TaskSet) -> Tasks:
    """Return twenty users as scoring sees them: at the end of the log."""
    known = task_set.tasks("test")
    support = known.support
    ids = np.array(known.user_id)
    events = pa.table(
        {
            "user_id": ids[support.task],
            "item_id": model.catalogue.items.item_id.take(pa.array(support.item)),
            "value": np.clip(support.value, *model.value_range),
        }
    )
    return tasks_for_new_users(model, events, known.profile)[0]


def brute_force(model: Model, tasks: Tasks, top_k: int, exclude_seen: bool) -> list[list[int]]:
    """Return lists by scoring every item for one user at a time."""
    lists = []
    for b in range(len(tasks)):
        one = tasks.take(np.array([b]))
        last = len(model.catalogue.statistics.time) - 1
        end = int(np.iinfo(np.int64).max)
        scorer = Scorer.of(model)
        items = scorer.item_block(last, end, 0, NUM_ITEMS)
        scores = scorer.rank_block(scorer.settled(scorer.adapt(one)), items)[0].numpy()
        seen = set(one.support.item.tolist()) if exclude_seen else set()
        order = [i for i in np.argsort(-scores, kind="stable").tolist() if i not in seen]
        lists.append(order[:top_k])
    return lists


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("item_block", [1, 7, 1000])
def test_lists_are_the_best_unseen_items(
    model: Model, tasks: Tasks, item_block: int, exclude_seen: bool
) -> None:
    config = ScoringConfig(top_k=6, item_block=item_block, exclude_seen=exclude_seen)
    found = rank(Scorer.of(model), adapt_users(Scorer.of(model), tasks), config)
    assert found.item_Bk.tolist() == brute_force(model, tasks, 6, exclude_seen)
    low, high = model.value_range
    assert (found.score_Bk >= low).all()
    assert (found.score_Bk <= high).all()


@pytest.mark.parametrize("num_threads", [2, 3])
def test_threads_that_share_the_catalogue_find_the_same_lists(
    model: Model, tasks: Tasks, num_threads: int
) -> None:
    before = torch.get_num_threads()
    one = tasks.take(np.arange(1))
    torch.set_num_threads(num_threads)
    try:
        found = rank(
            Scorer.of(model),
            adapt_users(Scorer.of(model), one),
            ScoringConfig(top_k=6, item_block=4),
        )
    finally:
        torch.set_num_threads(before)
    assert found.item_Bk.tolist() == brute_force(model, one, 6, exclude_seen=True)


def with_popularity(model: Model, weight: float) -> Model:
    """Return the model with another say of popularity in its lists."""
    changed = model.on(model.catalogue.items, model.catalogue.statistics)
    changed.config = dataclasses.replace(model.config, popularity_weight=weight)
    return changed


def test_popularity_has_a_say_in_the_order_and_none_in_the_score(
    model: Model, tasks: Tasks
) -> None:
    users, config = adapt_users(Scorer.of(model), tasks), ScoringConfig(top_k=100)
    by_value = rank(Scorer.of(with_popularity(model, 0.0)), users, config)
    assert (np.diff(by_value.score_Bk, axis=1) <= 0).all()
    by_count = rank(Scorer.of(with_popularity(model, 1e4)), users, config)
    count_I = model.catalogue.statistics.num_users[-1]
    for b in range(len(tasks)):
        listed = by_count.item_Bk[b][by_count.item_Bk[b] >= 0]
        assert (np.diff(count_I[listed]) <= 0).all()
    blended = rank(Scorer.of(model), users, config)
    for b in range(len(tasks)):
        length = int((blended.item_Bk[b] >= 0).sum())
        expected = dict(zip(by_value.item_Bk[b], by_value.score_Bk[b], strict=True))
        found = dict(zip(blended.item_Bk[b, :length], blended.score_Bk[b, :length], strict=True))
        for item, score in found.items():
            assert score == pytest.approx(expected[item], abs=1e-4)


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_whoever_asks_for_lists_may_weigh_popularity_otherwise(
    model: Model, tasks: Tasks, weight: float
) -> None:
    users, before = adapt_users(Scorer.of(model), tasks), model.config
    asked = ScoringConfig(top_k=NUM_ITEMS, popularity_weight=weight)
    found = rank(Scorer.of(model), users, asked)
    assert model.config is before
    other = Scorer.of(model).weighted(weight)
    expected = rank(other, users, ScoringConfig(top_k=NUM_ITEMS))
    np.testing.assert_array_equal(found.item_Bk, expected.item_Bk)
    made = ListMaker(Scorer.of(model), asked).make(users, tasks)
    np.testing.assert_array_equal(made.item_Bk, found.item_Bk)
    if weight == 0:
        falls = np.diff(found.score_Bk, axis=1) <= 1e-5
        assert (falls | (found.item_Bk[:, 1:] < 0)).all()
    else:
        assert (
            found.item_Bk != rank(Scorer.of(model), users, ScoringConfig(top_k=NUM_ITEMS)).item_Bk
        ).any()
    with pytest.raises(UserError, match="popularity_weight is -1"):
        ScoringConfig(popularity_weight=-1)


def test_implicit_lists_are_in_the_order_of_their_scores(implicit_model: Model) -> None:
    events = pa.table({"user_id": ["a", "b"], "item_id": ["i03", "i05"]})
    tasks, _ = tasks_for_new_users(implicit_model, events)
    found = rank(
        Scorer.of(implicit_model),
        adapt_users(Scorer.of(implicit_model), tasks),
        ScoringConfig(top_k=10),
    )
    assert (np.diff(found.score_Bk, axis=1) <= 0).all()


def test_a_median_does_not_tie_the_best_items(task_set: TaskSet) -> None:
    """Where medians saturate, the lists go on by what the medians come from."""
    learner = MAMLConfig(num_steps=0, estimate="median", num_levels=5)
    config = ModelConfig(learner=learner, popularity_weight=0.0)
    model = Model.untrained(config, task_set, torch.device("cpu"))
    model.params = model.learner.init_params(torch.Generator().manual_seed(0))
    model.params = {n: 30 * p if n.startswith("layer") else p for n, p in model.params.items()}
    tasks = task_set.tasks("test")
    plain = dataclasses.replace(config, learner=MAMLConfig(num_steps=0))
    mean = Model(
        plain,
        model.params,
        model.encoder,
        model.catalogue.items,
        model.catalogue.statistics,
        model.objective,
        model.value_range,
        model.device,
    )
    found = rank(Scorer.of(model), adapt_users(Scorer.of(model), tasks), ScoringConfig(top_k=10))
    assert found.item_Bk.tolist() == brute_force(mean, tasks, 10, exclude_seen=True)


@pytest.mark.parametrize("item_block", [7, 1000])
def test_a_network_that_is_not_linear_is_ranked_too(task_set: TaskSet, item_block: int) -> None:
    network = PreferenceConfig(embedding_dim=3, hidden_dims=(6,), layer_norm=True, num_factors=2)
    model = Model.untrained(ModelConfig(network=network), task_set, torch.device("cpu"))
    model.params = model.learner.init_params(torch.Generator().manual_seed(0))
    tasks = task_set.tasks("test")
    users = adapt_users(Scorer.of(model), tasks)
    stored = AdaptedUsers.from_bytes(users.to_bytes())
    found = rank(Scorer.of(model), stored, ScoringConfig(top_k=6, item_block=item_block))
    assert found.item_Bk.tolist() == brute_force(model, tasks, 6, exclude_seen=True)


def test_places_without_an_item_say_so(model: Model, tasks: Tasks) -> None:
    found = rank(Scorer.of(model), adapt_users(Scorer.of(model), tasks), ScoringConfig(top_k=100))
    for row, length in zip(found.item_Bk, tasks.support.lengths, strict=True):
        unseen = NUM_ITEMS - length
        assert len(set(row[:unseen].tolist())) == unseen
        assert (row[:unseen] >= 0).all()
        assert (row[unseen:] == -1).all()


def test_adapted_users_survive_storage(model: Model, tasks: Tasks) -> None:
    users = adapt_users(Scorer.of(model), tasks)
    stored = AdaptedUsers.from_bytes(users.to_bytes())
    assert stored.user_id == users.user_id
    config = ScoringConfig()
    expected, found = rank(Scorer.of(model), users, config), rank(Scorer.of(model), stored, config)
    np.testing.assert_array_equal(found.item_Bk, expected.item_Bk)
    np.testing.assert_array_equal(found.score_Bk, expected.score_Bk)


def test_batches_of_users_get_the_same_lists(model: Model, tasks: Tasks) -> None:
    users = adapt_users(Scorer.of(model), tasks)
    whole = rank(Scorer.of(model), users, ScoringConfig())
    parts = [rank(Scorer.of(model), some, ScoringConfig()) for some in users.batches(3)]
    np.testing.assert_array_equal(np.concatenate([p.item_Bk for p in parts]), whole.item_Bk)


def test_among_equals_the_lower_number_comes_first(model: Model, tasks: Tasks) -> None:
    level = {name: torch.zeros_like(p) for name, p in model.params.items()}
    flat = with_popularity(model, 0.0)
    flat.params = level
    nobody = dataclasses.replace(tasks, support=tasks.support.first(0))
    found = rank(
        Scorer.of(flat), adapt_users(Scorer.of(flat), nobody), ScoringConfig(top_k=4, item_block=5)
    )
    assert found.item_Bk.tolist() == [[0, 1, 2, 3]] * len(tasks)


def test_no_users_get_no_lists(model: Model, tasks: Tasks) -> None:
    none = tasks.take(np.arange(0))
    users = adapt_users(Scorer.of(model), none)
    found = rank(Scorer.of(model), AdaptedUsers.from_bytes(users.to_bytes()), ScoringConfig())
    assert found.item_Bk.shape[0] == 0
    assert list(users.batches(4)) == []


def test_implicit_feedback_is_ranked_too(implicit_model: Model) -> None:
    events = pa.table({"user_id": ["a", "a", "b"], "item_id": ["i03", "i05", None]})
    tasks, _ = tasks_for_new_users(implicit_model, events)
    found = rank(
        Scorer.of(implicit_model),
        adapt_users(Scorer.of(implicit_model), tasks),
        ScoringConfig(top_k=20),
    )
    assert set(found.item_Bk[0, :18].tolist()) == set(range(20)) - {3, 5}
    assert sorted(found.item_Bk[1].tolist()) == list(range(20))


@pytest.mark.parametrize("name", ["top_k", "user_batch", "item_block"])
def test_sizes_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0"):
        ScoringConfig(**{name: 0})
