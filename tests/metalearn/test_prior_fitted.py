"""The prior-fitted network: what it counts of a log, what it must not read, and what it knows."""

import dataclasses

import numpy as np
import pytest
import torch

from recmeta.metalearn.algorithms.model_based.prior_fitted import PriorFitted, shipped_weights
from recmeta.metalearn.learner import CatalogueRanker, Params
from recmeta.metalearn.model import Model
from recmeta.metalearn.prior_fitted import log_statistics as of_log
from recmeta.metalearn.prior_fitted.log_statistics import LogRows, log_statistics
from recmeta.metalearn.prior_fitted.network import (
    evidence_of_all,
    evidence_of_rows,
    init_network,
    outputs,
    user_state,
)
from recmeta.metalearn.scorer import Scorer
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.training.recipes import training_of
from recmeta.training.start import at_start
from recmeta.workspace import Folder

NUM_CODES = 31


def some_rows(seed: int = 0, num_users: int = 40) -> LogRows:
    """Return a log of distinct items per user, with times and ratings."""
    generator = np.random.default_rng(seed)
    length_U = generator.integers(1, 12, num_users)
    code = [1 + generator.choice(NUM_CODES - 1, n, replace=False) for n in length_U]
    user = np.repeat(np.arange(num_users), length_U)
    value = generator.integers(1, 6, len(user)) - 3.0
    return LogRows(user, np.concatenate(code), value, of_log.recencies(user))


def dense(statistics: Params, name: str) -> np.ndarray:
    """Return a table of neighbours as a matrix (C, C)."""
    found = np.zeros((NUM_CODES, NUM_CODES + 1))
    neighbour_CK = statistics[of_log.NEIGHBOUR].long().numpy()
    np.put_along_axis(found, neighbour_CK, statistics[name].numpy(), 1)
    return found[:, :NUM_CODES]


def test_pairs_are_counted_as_a_loop_over_users_counts_them() -> None:
    rows = some_rows()
    together, agreement = np.zeros((2, NUM_CODES, NUM_CODES))
    mean_C = {c: rows.value[rows.code == c].mean() for c in set(rows.code.tolist())}
    for user in range(40):
        own = np.flatnonzero(rows.user == user)
        for i in own:
            for j in own:
                first, second = int(rows.code[i]), int(rows.code[j])
                if first != second:
                    together[first, second] += 1
                    centred = rows.value[i] - mean_C[first], rows.value[j] - mean_C[second]
                    agreement[first, second] += centred[0] * centred[1]
    found = log_statistics(rows, NUM_CODES, 0)
    np.testing.assert_array_equal(dense(found, of_log.TOGETHER), together)
    np.testing.assert_allclose(dense(found, of_log.AGREEMENT), agreement, atol=1e-5)
    count_C = np.bincount(rows.code, minlength=NUM_CODES)
    np.testing.assert_array_equal(found[of_log.COUNT][:, 0], count_C)
    newest = rows.recency < 0.25
    np.testing.assert_array_equal(
        found[of_log.COUNT][:, 1], np.bincount(rows.code[newest], minlength=NUM_CODES)
    )
    assert found[of_log.SIZE].tolist() == [40, (count_C > 0).sum(), len(rows.code)]


def test_small_blocks_count_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = log_statistics(some_rows(), NUM_CODES, 0)
    monkeypatch.setattr(of_log, "PAIRS_AT_ONCE", 40)
    in_blocks = log_statistics(some_rows(), NUM_CODES, 0)
    for name, table in whole.items():
        torch.testing.assert_close(in_blocks[name], table, rtol=0, atol=0)


def test_pairs_of_a_share_of_the_users_are_scaled_up_to_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The network compares counts of pairs with counts of items, which are those of all users."""
    rows = some_rows(num_users=4_000)
    whole = dense(log_statistics(rows, NUM_CODES, 0), of_log.TOGETHER)
    num_pairs = int((np.bincount(rows.user) ** 2).sum())
    monkeypatch.setattr(of_log, "MOST_PAIRS", num_pairs // 4)
    of_some = dense(log_statistics(rows, NUM_CODES, 0), of_log.TOGETHER)
    assert (of_some != whole).any()
    assert of_some.sum() == pytest.approx(whole.sum(), rel=0.05)
    monkeypatch.setattr(of_log, "MOST_PAIRS", 11**2 - 1)
    small = log_statistics(rows, NUM_CODES, 0)
    assert small[of_log.TOGETHER].any(), "a user with too many pairs hides nobody else's"
    monkeypatch.setattr(of_log, "MOST_PAIRS", 0)
    assert not log_statistics(rows, NUM_CODES, 0)[of_log.TOGETHER].any()


def test_the_vectors_are_the_singular_vectors_of_the_log() -> None:
    rows = some_rows()
    matrix_UC = np.zeros((40, NUM_CODES))
    matrix_UC[rows.user, rows.code] = 1
    matrix_UC /= np.sqrt(np.maximum(matrix_UC.sum(0), 1))
    found_CF = log_statistics(rows, NUM_CODES, 0)[of_log.VECTOR].numpy()
    rank = 5
    *_, expected_FC = np.linalg.svd(matrix_UC, full_matrices=False)
    first_CC = found_CF[:, :rank] @ found_CF[:, :rank].T
    np.testing.assert_allclose(first_CC, expected_FC[:rank].T @ expected_FC[:rank], atol=1e-3)


def small_params(rows: LogRows) -> Params:
    """Return weights that are not the shipped ones, with a log's statistics."""
    return init_network(torch.Generator().manual_seed(3)) | log_statistics(rows, NUM_CODES, 0)


def said(params: Params, code_BS: torch.Tensor, value_BS: torch.Tensor) -> torch.Tensor:
    """Return (B, C, 3) what is said of every item."""
    past_BSD = torch.zeros((*code_BS.shape, 2))
    mask_BS = code_BS > 0
    state = user_state(params, code_BS, value_BS, past_BSD, mask_BS, is_graded=True)
    code_1C = torch.arange(NUM_CODES)[None]
    evidence_BCE = evidence_of_all(params, state)
    found = outputs(params, state, evidence_BCE, code_1C, torch.zeros((1, NUM_CODES, 2)))
    return torch.stack(found, -1)


CODE_BS = torch.tensor([[3, 7, 12], [5, 0, 0], [0, 0, 0]])
VALUE_BS = torch.tensor([[1.0, -1.0, 0.5], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])


def test_numbering_the_items_otherwise_changes_nothing_else() -> None:
    rows = some_rows()
    number_C = np.concatenate([[0], 1 + np.random.default_rng(1).permutation(NUM_CODES - 1)])
    other = rows._replace(code=number_C[rows.code])
    before = said(small_params(rows), CODE_BS, VALUE_BS)
    after = said(small_params(other), torch.from_numpy(number_C)[CODE_BS], VALUE_BS)
    torch.testing.assert_close(after[:, number_C], before, rtol=1e-3, atol=1e-3)


def test_items_of_a_few_rows_get_what_the_whole_catalogue_gets() -> None:
    params = small_params(some_rows())
    state = user_state(
        params, CODE_BS, VALUE_BS, torch.zeros((3, 3, 2)), CODE_BS > 0, is_graded=True
    )
    code_BR = torch.tensor([[4, 0, 9, 9], [5, 6, 7, 8], [1, 2, 3, 30]])
    of_all = evidence_of_all(params, state)
    expected = torch.stack([of_all[b, code_BR[b]] for b in range(3)])
    torch.testing.assert_close(evidence_of_rows(params, state, code_BR), expected)
    assert of_all[0].any()
    assert not of_all[2].any()


@pytest.fixture(scope="module")
def task_set(tmp_path_factory: pytest.TempPathFactory) -> TaskSet:
    folder = Folder.at(tmp_path_factory.mktemp("prior"))
    log = generate(SyntheticConfig(num_users=150, num_items=60, rows_per_user=(10, 20)), seed=0)
    return write_task_set(log, folder)


@pytest.fixture(scope="module")
def model(task_set: TaskSet) -> Model:
    return at_start(training_of("prior-fitted"), task_set, torch.device("cpu")).model


def test_a_start_counts_the_training_users_and_keeps_the_shipped_weights(
    model: Model, task_set: TaskSet
) -> None:
    train = task_set.tasks("train")
    num_rows = len(train.support.item) + len(train.query.item)
    assert model.params[of_log.SIZE][2] == num_rows
    for name, weight in shipped_weights().items():
        assert torch.equal(model.params[name], weight), name
    assert sum(p.numel() for p in shipped_weights().values()) < 20_000


def test_a_catalogue_is_ranked_as_its_items_are_one_by_one(model: Model, task_set: TaskSet) -> None:
    tasks = task_set.tasks("test").take(np.arange(4))
    scorer = Scorer.of(model)
    assert isinstance(model.learner, CatalogueRanker)
    state = scorer.adapt(tasks)
    rows = model.catalogue.item_rows(np.arange(model.catalogue.num_items))
    ranked = model.learner.ranked_by(model.params, model.learner.settle(model.params, state), rows)
    predicted = scorer.predict(state, rows)
    torch.testing.assert_close(ranked, predicted.listed_by_BR, rtol=1e-4, atol=1e-4)
    assert not torch.equal(predicted.listed_by_BR, predicted.ranked_by_BR)


def test_another_scale_of_values_changes_nothing_in_units_of_the_model(model: Model) -> None:
    assert model.config.learner.rescaled(model, model.params, 2.0, 1.0) is model.params


def test_without_ids_every_item_is_one_that_nobody_took(task_set: TaskSet) -> None:
    config = training_of("prior-fitted").model
    features = dataclasses.replace(config.features, use_item_id=False)
    blind = Model.untrained(
        dataclasses.replace(config, features=features), task_set, torch.device("cpu")
    )
    assert isinstance(blind.learner, PriorFitted)
    assert blind.learner.num_codes == 1
    blind.params = blind.learner.init_params(torch.Generator())
    predicted = Scorer.of(blind).score_query(task_set.tasks("test"))
    assert np.isfinite(predicted).all()
