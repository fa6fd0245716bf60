"""Learned lists follow what a user takes: on a log of three tastes, a few rows tell which one."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from recmeta import schema
from recmeta.evaluation.learned import LearnedPredictor
from recmeta.evaluation.measuring.catalogue_metrics import ranking_of
from recmeta.metalearn.heads.list_head import CHOICES, ListHead
from recmeta.metalearn.learner import UserState
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.list_reasons import list_effects
from recmeta.serving.lists import ListMaker, relative_likelihoods
from recmeta.serving.new_user_tasks import tasks_for_new_users
from recmeta.serving.ranking import ScoringConfig, adapt_users
from recmeta.tasks.arrays import Float32Array, IntArray
from recmeta.tasks.item_files import Items, ItemStatistics
from recmeta.tasks.task_set import Tasks, TaskSet
from recmeta.testing.tasks import write_task_set
from recmeta.training.choices.config import ChoiceConfig
from recmeta.training.lists.learn import FEWEST_USERS, learn_lists
from recmeta.training.lists.prior import prior_weights
from recmeta.workspace import Folder

TASTES, EACH, NUM_USERS, NUM_ROWS = 3, 12, 160, 9
NUM_ITEMS = TASTES * EACH
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def task_set(tmp_path_factory: pytest.TempPathFactory) -> TaskSet:
    return of_three_tastes(NUM_USERS, Folder.at(tmp_path_factory.mktemp("tastes")))


def of_three_tastes(num_users: int, folder: Folder) -> TaskSet:
    """Return users who take items of one taste, of each taste the first ones most; all ratings are
    drawn alike, so that they say nothing."""
    generator = np.random.default_rng(0)
    share_I = 1.0 / (1 + np.arange(EACH))
    rows = []
    for user in range(num_users):
        taken = generator.choice(EACH, NUM_ROWS, replace=False, p=share_I / share_I.sum())
        items = EACH * (user % TASTES) + taken
        rows += [(f"u{user:03d}", f"i{n:02d}", float(generator.integers(1, 6))) for n in items]
    users = sorted({user for user, _, _ in rows})
    names = [schema.USER_ID, schema.ITEM_ID, schema.VALUE]
    log = SimpleNamespace(
        interactions=pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))),
        users=pa.table({schema.USER_ID: users}),
        items=pa.table(
            {
                schema.ITEM_ID: [f"i{n:02d}" for n in range(NUM_ITEMS)],
                schema.VALID_FROM: np.full(NUM_ITEMS, schema.ALWAYS),
            }
        ),
        objective="rating",
    )
    return write_task_set(log, folder)


@pytest.fixture(scope="module", params=[False, True], ids=["neighbours", "choices"])
def model(task_set: TaskSet, request: pytest.FixtureRequest) -> Model:
    """Return a model whose learner knows nothing, with lists that were learned: out of tables of
    neighbours, or of what users take next, too."""
    choices = ChoiceConfig(num_factors=8, epochs=3 if request.param else 0)
    network = PreferenceConfig(embedding_dim=2, hidden_dims=(4,))
    model = Model.untrained(ModelConfig(network=network), task_set, torch.device("cpu"))
    model.params = model.learner.init_params(torch.Generator().manual_seed(0))
    learned = learn_lists(model, task_set, seed=0, choices=choices)
    assert learned is not None
    model.learned_lists = learned.head
    return model


def asked(model: Model, *items: int, user: str = "new") -> pa.Table:
    ids = [f"i{n:02d}" for n in items]
    rows = {"user_id": [user] * len(ids), "item_id": ids, "value": [5.0] * len(ids)}
    return pa.table(rows)


def listed(model: Model, table: pa.Table, top_k: int = 5) -> list[int]:
    tasks, _ = tasks_for_new_users(model, table)
    scorer = Scorer.of(model)
    made = ListMaker(scorer, ScoringConfig(top_k=top_k)).make(adapt_users(scorer, tasks), tasks)
    return [int(n) for n in made.item_Bk[0]]


def test_lists_beat_popularity_and_follow_few_rows(model: Model, task_set: TaskSet) -> None:
    test, history = task_set.tasks("test"), task_set.history()
    lists = model.learned_lists
    assert lists is not None
    assert "next" not in lists.tables  # rows without times have no order
    assert {"together", CHOICES} & set(lists.columns)
    learned = LearnedPredictor("learned", model, history)
    plain = LearnedPredictor("plain", model, history)
    plain.scorer = dataclasses.replace(
        plain.scorer, lists=type(lists).of_popularity(1.0, lists.count_I.numpy(), model.device)
    )

    def quality(predictor: LearnedPredictor, shots: int) -> float:
        found = ranking_of(predictor, test.with_shots(shots), NUM_ITEMS, 10)
        return float(np.nanmean(found["ndcg@10"]))

    assert quality(learned, 3) > 1.5 * quality(plain, 3)
    assert quality(learned, 3) > 1.5 * quality(learned, 0)
    assert quality(learned, 0) > 0.8 * quality(plain, 0)


def test_a_log_without_enough_development_users_has_the_weights_of_other_logs(
    tmp_path: Path,
) -> None:
    few = of_three_tastes(50, Folder.at(tmp_path))
    assert 0 < few.spec.num_tasks["dev"] < FEWEST_USERS
    network = PreferenceConfig(embedding_dim=2, hidden_dims=(4,))
    model = Model.untrained(ModelConfig(network=network), few, torch.device("cpu"))
    model.params = model.learner.init_params(torch.Generator().manual_seed(0))
    learned = learn_lists(model, few, seed=0, choices=ChoiceConfig(num_factors=8))
    assert learned is not None
    lists = model.learned_lists = learned.head
    assert lists.columns == ("popularity", "learner", "together")
    # Popularity has its own units, the others those of a standard deviation.
    prior_KC = prior_weights(lists.columns)
    scale_KC = prior_KC / lists.weight_KC.numpy()
    np.testing.assert_allclose(scale_KC, np.broadcast_to(scale_KC[0], scale_KC.shape), rtol=1e-5)
    assert scale_KC[0, 0] == pytest.approx(1)
    assert 0.3 < scale_KC[0, 2] < 1.5
    test, popular = few.tasks("test"), ListHead.of_popularity(1.0, lists.count_I.numpy(), CPU)
    found = []
    for head in (lists, popular):
        predictor = LearnedPredictor("lists", model, few.history())
        predictor.scorer = dataclasses.replace(predictor.scorer, lists=head)
        found.append(np.nanmean(ranking_of(predictor, test, NUM_ITEMS, 10)["ndcg@10"]))
    assert found[0] > 1.05 * found[1]


def test_three_answers_tell_the_taste(model: Model) -> None:
    for taste in range(TASTES):
        first = EACH * taste
        found = listed(model, asked(model, first, first + 1, first + 3))
        assert {n // EACH for n in found} == {taste}


def test_a_low_rating_speaks_against_what_is_near(model: Model) -> None:
    lists = model.learned_lists
    assert lists is not None
    graded = dataclasses.replace(lists, centre=2.5)
    support = tasks_for_new_users(model, asked(model, 0, 12))[0].support
    state = graded.state(support, torch.zeros((1, 0), dtype=torch.int64))
    liked = graded.settle(state)["list.base"][0]
    disliked_state = dict(state)
    disliked_state["list.weight"] = state["list.weight"] * torch.tensor([[1.0, -0.6]])
    disliked = graded.settle(disliked_state)["list.base"][0]
    assert (disliked[12:24] - disliked[:12].mean()).mean() < (
        liked[12:24] - liked[:12].mean()
    ).mean()


def test_reasons_are_parts_of_the_order(model: Model) -> None:
    """What all rows add to one listed item less what they add to another is the difference of the
    order, less that of popularity."""
    tasks, _ = tasks_for_new_users(model, asked(model, 0, 1, 14))
    scorer = Scorer.of(model)
    users = adapt_users(scorer, tasks)
    made = ListMaker(scorer, ScoringConfig(top_k=6)).make(users, tasks)
    found = list_effects(scorer, users.state, tasks, made.item_Bk)
    np.testing.assert_allclose(found.effect_Nk.sum(1), 0, atol=1e-4)
    lists = scorer.lists
    weight_C = lists.weights(torch.tensor([3]))[0].numpy()
    if CHOICES in lists.columns:
        _are_what_the_order_loses(scorer, users.state, tasks, made.item_Bk)
        return
    popular_k = weight_C[0] * np.log(lists.count_I.numpy() + lists.offset)[made.item_Bk[0]]
    learner = list(lists.columns).index("learner")
    state = users.state
    output_k = scorer.predict(state, scorer.rows_of_now(made.item_Bk)).ranked_by_BR[0].numpy()
    by_neighbours_k = made.worth_Bk[0] - popular_k - weight_C[learner] * output_k
    only = dataclasses.replace(scorer, lists=_without_learner(lists))
    parts = list_effects(only, state, tasks, made.item_Bk)
    parts_k = parts.effect_Nk.sum(0)
    np.testing.assert_allclose(
        parts_k - parts_k.mean(), by_neighbours_k - by_neighbours_k.mean(), atol=1e-4
    )
    reason_k = parts.best_reason()[0]
    for row, item in zip(reason_k[reason_k >= 0], made.item_Bk[0][reason_k >= 0], strict=True):
        assert tasks.support.item[row] // EACH == item // EACH  # a row of the same taste


def _are_what_the_order_loses(
    scorer: Scorer, state: UserState, tasks: Tasks, item_Bk: IntArray
) -> None:
    """Assert that effects on the learner's output and on the log-odds are what the order loses
    where a row is left out, relative to the mean over the list.

    The weights are those of the whole support, and tables of neighbours count nothing: their scale
    is that of the whole support, too.
    """
    lists = scorer.lists
    weight_C = lists.weights(torch.tensor([len(tasks.support.item)]))[0].clone()
    for name in lists.table_names:
        weight_C[lists.columns.index(name)] = 0
    lists = dataclasses.replace(lists, weight_KC=weight_C.expand_as(lists.weight_KC))
    fixed = dataclasses.replace(scorer, lists=lists)
    effect_Nk = list_effects(fixed, state, tasks, item_Bk).effect_Nk

    def order_k(some: Tasks) -> Float32Array:
        settled = fixed.settled(fixed.adapt(some))
        output_BR = fixed.predict(fixed.adapt(some), fixed.rows_of_now(item_Bk)).ranked_by_BR
        item_BR = torch.from_numpy(item_Bk)
        return lists.scores(settled, output_BR, item_BR)[0].numpy()

    whole_k = order_k(tasks)
    for row in range(len(tasks.support.item)):
        rest = np.arange(len(tasks.support.item)) != row
        without_k = order_k(dataclasses.replace(tasks, support=tasks.support.select(rest)))
        change_k = whole_k - without_k
        np.testing.assert_allclose(effect_Nk[row], change_k - change_k.mean(), atol=1e-4)


def _without_learner(lists: ListHead) -> ListHead:
    weight_KC = lists.weight_KC.clone()
    weight_KC[:, lists.columns.index("learner")] = 0
    return dataclasses.replace(lists, weight_KC=weight_KC)


def test_relative_likelihoods_fall_along_the_list(model: Model) -> None:
    tasks, _ = tasks_for_new_users(model, asked(model, 2, 3))
    scorer = Scorer.of(model)
    made = ListMaker(scorer, ScoringConfig(top_k=8)).make(adapt_users(scorer, tasks), tasks)
    found = relative_likelihoods(made.worth_Bk)[0]
    assert found[0] == 1
    assert (np.diff(found) <= 0).all()
    assert (found > 0).all()
    np.testing.assert_allclose(found, np.exp(made.worth_Bk[0] - made.worth_Bk[0, 0]), rtol=1e-6)


def test_a_saved_model_makes_the_same_lists(
    model: Model, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = Folder.at(tmp_path_factory.mktemp("saved"))
    model.save(folder)
    again = Model.load(folder)
    assert listed(again, asked(model, 0, 1)) == listed(model, asked(model, 0, 1))
    plain = model.on(model.catalogue.items, model.catalogue.statistics, with_lists=False)
    other = Folder.at(tmp_path_factory.mktemp("plain"))
    plain.save(other)
    assert not other.exists("lists.safetensors")
    assert Model.load(other).learned_lists is None


def test_new_items_change_no_numbers_of_those_that_are_known(
    model: Model, task_set: TaskSet
) -> None:
    items, past = model.catalogue.items, model.catalogue.statistics
    more = Items(
        pa.array(["a-new-one", *items.item_id.to_pylist()]),
        np.concatenate([[0], items.item + 1]).astype(np.int32),
        np.concatenate([items.valid_from[:1], items.valid_from]),
        pa.concat_tables([items.attributes.slice(0, 1), items.attributes]),
    )
    nobody = np.zeros((len(past.time), 1), np.float32)
    statistics = ItemStatistics(
        past.time,
        np.concatenate([nobody, past.num_users], 1),
        np.concatenate([nobody, past.sum_values], 1),
    )
    wider = model.on(more, statistics)
    assert wider.learned_lists is not None
    assert wider.learned_lists.count_I[0] == 0
    expected = listed(model, asked(model, 0, 1))
    assert [n - 1 for n in listed(wider, asked(model, 0, 1))] == expected
