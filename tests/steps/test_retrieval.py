"""Candidates from an index: how many of the exhaustive lists they hold, and what if too few."""

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from recmeta.errors import UserError
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.lists import ListMaker
from recmeta.serving.new_user_tasks import tasks_for_new_users
from recmeta.serving.ranking import AdaptedUsers, ScoringConfig, adapt_users
from recmeta.serving.retrieval import Factors, RetrievalConfig, recall
from recmeta.serving.rules import ItemFacts, Rules
from recmeta.steps.parts.faiss_index import EXACT_BELOW, FaissIndex
from recmeta.tasks.task_set import Tasks
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.workspace import Folder

pytest.importorskip("faiss")
NUM_ITEMS, TOP_K = 400, 10
CONFIG = RetrievalConfig(candidates=60, num_factors=16, num_anchors=80, num_judges=40)


@pytest.fixture(scope="module", params=["maml", "bayesian-linear"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    log = generate(SyntheticConfig(num_users=60, num_items=NUM_ITEMS, rows_per_user=(6, 16)), 4)
    task_set = write_task_set(log, Folder.at(tmp_path_factory.mktemp("tasks")))
    network = PreferenceConfig(embedding_dim=4, hidden_dims=(8,))
    config = ModelConfig(algorithm=request.param, network=network, popularity_weight=0.1)
    model = Model.untrained(config, task_set, torch.device("cpu"))
    model.params = model.learner.init_params(torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    for p in model.params.values():
        p += 0.15 * torch.randn(p.shape, generator=generator)
    return model


@pytest.fixture(scope="module")
def tasks(model: Model) -> Tasks:
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(200), 6)
    item = model.catalogue.items.item_id.take(pa.array(random.integers(0, NUM_ITEMS, len(users))))
    value = random.uniform(*model.value_range, len(users))
    events = {"user_id": [f"u{n:03d}" for n in users], "item_id": item, "value": value}
    return tasks_for_new_users(model, pa.table(events))[0]


@pytest.fixture(scope="module")
def users(model: Model, tasks: Tasks) -> AdaptedUsers:
    return adapt_users(Scorer.of(model), tasks)


def maker(model: Model, retrieval: RetrievalConfig | None, **rules: Any) -> ListMaker:
    config = ScoringConfig(top_k=TOP_K, reasons=False, retrieval=retrieval, rules=Rules(**rules))
    denied = model.catalogue.items.item_id.slice(0, 50).to_pylist()
    return ListMaker(Scorer.of(model), config, ItemFacts(denied=denied))


def test_lists_are_nearly_the_exhaustive_ones(
    model: Model, tasks: Tasks, users: AdaptedUsers
) -> None:
    indexed = maker(model, CONFIG)
    measured = indexed.use_index(FaissIndex, users, tasks)
    assert measured is not None
    assert measured >= CONFIG.min_recall
    assert indexed.uses_index
    others = np.arange(120, 200)
    batch = list(users.batches(40))[3:]
    truth = maker(model, None)
    for number, some in enumerate(batch):
        known = tasks.take(others[40 * number : 40 * number + 40])
        found, exact = indexed.make(some, known), truth.make(some, known)
        assert recall(found.item_Bk, exact.item_Bk) > 0.9
        assert (found.item_Bk >= 50).all(), "denied items are in no index"
        for user, row in enumerate(found.item_Bk):
            seen = known.support.item[known.support.task == user]
            assert not set(row.tolist()) & set(seen.tolist())
            assert len(set(row.tolist())) == TOP_K
        same = found.item_Bk == exact.item_Bk
        np.testing.assert_allclose(found.score_Bk[same], exact.score_Bk[same], atol=1e-4)


def test_below_the_least_recall_all_items_are_scored_or_it_fails(
    model: Model, tasks: Tasks, users: AdaptedUsers
) -> None:
    poor = dataclasses.replace(CONFIG, candidates=10, num_factors=1, min_recall=1.0)
    careful = maker(model, poor)
    measured = careful.use_index(FaissIndex, users, tasks)
    assert measured is not None
    assert measured < 1
    assert not careful.uses_index
    strict = maker(model, dataclasses.replace(poor, below="fail"))
    with pytest.raises(UserError, match="raise candidates"):
        strict.use_index(FaissIndex, users, tasks)
    few = np.arange(20)
    assert (
        maker(model, CONFIG).use_index(FaissIndex, next(users.batches(20)), tasks.take(few)) is None
    )


def test_rules_choose_from_candidates(model: Model, tasks: Tasks, users: AdaptedUsers) -> None:
    name = next(n for n in model.catalogue.items.attributes.column_names if n in ("genre", "tags"))
    indexed = maker(model, CONFIG, max_per_category={name: 4}, candidates=30)
    assert indexed.use_index(FaissIndex, users, tasks) is not None
    first = np.arange(40)
    found = indexed.make(next(users.batches(40)), tasks.take(first))
    assert (found.item_Bk >= 0).all()


def test_scores_of_low_rank_are_found_exactly() -> None:
    random = np.random.default_rng(0)
    left, right, mean = (
        random.normal(size=(60, 3)),
        random.normal(size=(3, 500)),
        random.normal(size=500),
    )
    score_AI = (mean + left @ right).astype(np.float32)
    factors = Factors.of(score_AI[:30], 3, random)
    query = factors.query(score_AI[30:][:, factors.landmark_L])
    np.testing.assert_allclose(query @ factors.vector_If.T, score_AI[30:], atol=0.05)
    best = FaissIndex(factors.vector_If, query).search(query, 5)
    assert recall(best, np.argsort(-score_AI[30:], axis=1)[:, :5]) > 0.97


def test_an_inverted_file_finds_what_everybody_likes() -> None:
    """Whose vectors are long: cells that are made for inner products miss a quarter and more."""
    random = np.random.default_rng(0)
    kind = random.integers(0, 300, EXACT_BELOW + 1000)
    vector = random.normal(size=(300, 8))[kind] + 0.1 * random.normal(size=(len(kind), 8))
    liked = random.normal(size=300)[kind] + random.gamma(1.5, 1.0, len(kind))
    vector_If = np.column_stack([liked, vector]).astype(np.float32)
    query_Bf = np.column_stack([np.ones(200), 0.5 * random.normal(size=(200, 8))])
    query_Bf = query_Bf.astype(np.float32)
    index = FaissIndex(vector_If, query_Bf[:100])
    truth = np.argsort(-(query_Bf[100:] @ vector_If.T), axis=1)[:, :TOP_K]
    assert recall(index.search(query_Bf[100:], TOP_K), truth) >= 0.97
    assert recall(index.search(query_Bf[100:], 5 * TOP_K), truth) >= 0.98
    assert 1 <= index.num_probed <= index.num_cells / 10
    same_If = np.repeat(vector_If[:1000], 60, axis=0)
    assert FaissIndex(same_If, query_Bf[:20]).num_probed <= index.num_cells / 10, "equals are equal"
