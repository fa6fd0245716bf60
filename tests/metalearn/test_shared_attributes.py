"""What items say of others through shared attributes is the log lift, counted pair by pair."""

import dataclasses
import itertools
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from recmeta import schema
from recmeta.metalearn.heads import shared_attributes
from recmeta.metalearn.heads.list_head import ATTRIBUTES
from recmeta.metalearn.heads.shared_attributes import (
    PRIOR_PAIRS,
    SharedAttributes,
    attribute_codes,
)
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.lists import ListMaker
from recmeta.serving.new_user_tasks import tasks_for_new_users
from recmeta.serving.ranking import ScoringConfig, adapt_users
from recmeta.tasks.task_set import Ragged, TaskSet
from recmeta.testing.tasks import write_task_set
from recmeta.training.lists.learn import learn_lists
from recmeta.workspace import Folder, MemoryFolder

CODES = [[1, 4], [1, 5], [2, 4], [2, 0], [3, 5], [0, 0]]
"""Values of six items: an author from 1 to 3, a publisher from 4 to 5; the last has neither."""
FIELD_V = np.array([0, 0, 0, 0, 1, 1])
USERS = [[0, 1, 2], [0, 1], [2, 3, 4], [1, 4], [5, 0], [3]]


@pytest.fixture(scope="module")
def rows() -> Ragged:
    return Ragged.from_lists(USERS, [[1.0] * len(items) for items in USERS])


@pytest.fixture(scope="module")
def table(rows: Ragged) -> SharedAttributes:
    return SharedAttributes.counted(torch.tensor(CODES), FIELD_V, rows)


def test_a_weight_is_the_logarithm_of_the_shrunk_lift(table: SharedAttributes) -> None:
    taken = [item for items in USERS for item in items]
    pairs = [pair for items in USERS for pair in itertools.permutations(items, 2)]
    together, by_chance = np.zeros(6), np.zeros(6)
    for value in range(1, 6):
        has = {item for item, codes in enumerate(CODES) if value in codes}
        together[value] = sum({a, b} <= has for a, b in pairs)
        # Two rows drawn from all, of different items.
        drawn = [(a, b) for a, b in itertools.product(taken, repeat=2) if a != b]
        by_chance[value] = sum({a, b} <= has for a, b in drawn) / len(taken) ** 2 * len(pairs)
    for field, values in ((0, [1, 2, 3]), (1, [4, 5])):
        lift = (together[values].sum() + PRIOR_PAIRS) / (by_chance[values].sum() + PRIOR_PAIRS)
        expected = np.log((together + PRIOR_PAIRS) / (by_chance + PRIOR_PAIRS / lift))
        np.testing.assert_allclose(
            table.weight[values], np.maximum(expected, 0)[values], rtol=1e-5, err_msg=f"{field}"
        )
    assert table.weight[0] == 0


def test_evidence_is_the_sum_over_shared_values(table: SharedAttributes) -> None:
    item_BS = torch.tensor([[0, 2, 0], [5, 4, 3]])
    weight_BS = torch.tensor([[1.0, -0.5, 0.0], [2.0, 1.0, 0.0]])
    found = table.evidence(item_BS, weight_BS)
    for user, item in itertools.product(range(2), range(6)):
        expected = sum(
            float(weight) * float(table.weight[value])
            for source, weight in zip(item_BS[user], weight_BS[user], strict=True)
            for value in CODES[int(source)]
            if value and value in CODES[item]
        )
        assert float(found[user, item]) == pytest.approx(expected, abs=1e-6)
    source, target = torch.arange(6)[:, None].expand(6, 6), torch.arange(6).expand(6, 6)
    single = table.evidence(torch.arange(6)[:, None], torch.ones(6, 1))
    torch.testing.assert_close(table.strength(source, target), single)


def test_of_more_rows_than_are_counted_users_are_left_out_evenly(
    rows: Ragged, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = torch.tensor(CODES)
    monkeypatch.setattr(shared_attributes, "MOST_VALUES", len(rows.item) * 2 // 2)
    some = SharedAttributes.counted(code, FIELD_V, rows)
    monkeypatch.undo()
    expected = SharedAttributes.counted(code, FIELD_V, rows.take(np.arange(0, len(USERS), 2)))
    torch.testing.assert_close(some.weight, expected.weight)


AUTHORS, EACH, NUM_USERS = 120, 8, 240


@pytest.fixture(scope="module")
def task_set(tmp_path_factory: pytest.TempPathFactory) -> TaskSet:
    """Return readers who take books of two authors each, out of so many that no two readers have
    much in common."""
    generator = np.random.default_rng(0)
    rows = []
    for user in range(NUM_USERS):
        authors = generator.choice(AUTHORS, 2, replace=False)
        taken = [EACH * author + generator.choice(EACH, 5, replace=False) for author in authors]
        items = generator.permutation(np.concatenate(taken))
        rows += [(f"u{user:03d}", f"i{n:03d}", float(generator.integers(1, 6))) for n in items]
    names = [schema.USER_ID, schema.ITEM_ID, schema.VALUE]
    num_items = AUTHORS * EACH
    log = SimpleNamespace(
        interactions=pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))),
        users=pa.table({schema.USER_ID: sorted({user for user, _, _ in rows})}),
        items=pa.table(
            {
                schema.ITEM_ID: [f"i{n:03d}" for n in range(num_items)],
                schema.VALID_FROM: np.full(num_items, schema.ALWAYS),
                "author": [f"a{n // EACH}" for n in range(num_items)],
            }
        ),
        objective="rating",
    )
    return write_task_set(log, Folder.at(tmp_path_factory.mktemp("readers")))


@pytest.fixture(scope="module")
def model(task_set: TaskSet) -> Model:
    network = PreferenceConfig(embedding_dim=2, hidden_dims=(4,))
    model = Model.untrained(ModelConfig(network=network), task_set, torch.device("cpu"))
    model.params = model.learner.init_params(torch.Generator().manual_seed(0))
    learned = learn_lists(model, task_set, seed=0)
    assert learned is not None
    model.learned_lists = learned.head
    return model


def listed(model: Model, item_id: str, top_k: int) -> list[str]:
    asked = pa.table({schema.USER_ID: ["new"], schema.ITEM_ID: [item_id], schema.VALUE: [5.0]})
    tasks, _ = tasks_for_new_users(model, asked)
    scorer = Scorer.of(model)
    made = ListMaker(scorer, ScoringConfig(top_k=top_k)).make(adapt_users(scorer, tasks), tasks)
    return [model.catalogue.items.item_id[int(n)].as_py() for n in made.item_Bk[0]]


def test_codes_are_of_attributes_that_recur(model: Model, task_set: TaskSet) -> None:
    found = attribute_codes(model.encoder, task_set.items())
    assert found is not None
    code_IW, field_V = found
    assert code_IW.shape == (AUTHORS * EACH, 1)
    assert bool((code_IW.view(AUTHORS, EACH) == code_IW[::EACH]).all())
    num_known = len(model.encoder.item_fields[0].values)  # authors whom training users met
    assert field_V.tolist() == [0] * (num_known + 1)
    assert code_IW.unique().tolist() == list(range(int(num_known == AUTHORS), num_known + 1))


def test_one_book_leads_to_the_others_of_its_author(model: Model) -> None:
    assert model.learned_lists is not None
    assert ATTRIBUTES in model.learned_lists.columns
    others = {f"i{n:03d}" for n in range(EACH * 17, EACH * 18)} - {"i139"}
    assert set(listed(model, "i139", EACH - 1)) == others


def test_a_new_book_of_a_known_author_is_listed(model: Model, task_set: TaskSet) -> None:
    items = task_set.items()
    with_new = dataclasses.replace(
        items,
        item_id=pa.array([*items.item_id.to_pylist(), "new"]),
        item=np.append(items.item, np.int32(AUTHORS * EACH)),
        valid_from=np.append(items.valid_from, schema.ALWAYS),
        attributes=pa.concat_tables([items.attributes, pa.table({"author": ["a17"]})]),
    )
    statistics = task_set.statistics().last()
    wider = dataclasses.replace(
        statistics,
        num_users=np.pad(statistics.num_users, ((0, 0), (0, 1))),
        sum_values=np.pad(statistics.sum_values, ((0, 0), (0, 1))),
    )
    there = model.on(with_new, wider)
    assert "new" in listed(there, "i139", EACH)
    folder = MemoryFolder()
    there.save(folder)
    assert listed(Model.load(folder), "i139", EACH) == listed(there, "i139", EACH)
