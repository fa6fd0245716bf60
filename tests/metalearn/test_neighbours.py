"""Tables of neighbours are what counting pair by pair gives, however the pairs are parted."""

import numpy as np
import pytest
import torch

from recmeta.metalearn.heads import neighbours
from recmeta.metalearn.heads.neighbours import Neighbours, taken_next, taken_together
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Ragged

NUM_ITEMS = 12


@pytest.fixture(scope="module")
def rows() -> Ragged:
    """Return users with up to eight rows of distinct items, one of them with none."""
    generator = np.random.default_rng(0)
    items = [generator.permutation(NUM_ITEMS - 1)[:n].tolist() for n in (8, 5, 0, 7, 1, 6, 8, 3)]
    return Ragged.from_lists(items, [[1.0] * len(some) for some in items])


def dense(table: Neighbours) -> Float64Array:
    """Return the table as a matrix, through the path that users' evidence takes."""
    every = torch.arange(table.num_items)[:, None]
    found: Float64Array = table.evidence(every, torch.ones_like(every, dtype=torch.float32))
    return np.asarray(found, np.float64)


def lists_of(rows: Ragged) -> list[list[int]]:
    return [rows.item[a:b].tolist() for a, b in zip(rows.offsets, rows.offsets[1:], strict=False)]


def strongest(matrix: Float64Array, k: int) -> Float64Array:
    """Return the k largest of each column, of equal ones the lower row."""
    kept = np.zeros_like(matrix)
    for column in range(matrix.shape[1]):
        order = sorted(range(len(matrix)), key=lambda n: (-np.float32(matrix[n, column]), n))
        kept[order[:k], column] = matrix[order[:k], column]
    return kept


@pytest.mark.parametrize(("first_rows", "k"), [(None, 100), (4, 100), (None, 3)])
def test_together_is_the_cosine_over_first_rows(
    rows: Ragged, first_rows: int | None, k: int
) -> None:
    both = np.zeros((NUM_ITEMS, NUM_ITEMS))
    for items in lists_of(rows):
        shown = items[:first_rows]
        both[np.ix_(shown, shown)] += 1
    norm = np.sqrt(np.maximum(np.diag(both), 1))
    cosine = both / norm / norm[:, None]
    np.fill_diagonal(cosine, 0)
    found = taken_together(rows, NUM_ITEMS, k, first_rows, seed=0)
    np.testing.assert_allclose(dense(found), strongest(cosine, k), rtol=1e-6)


@pytest.mark.parametrize(("window", "k"), [(1, 100), (3, 100), (3, 2)])
def test_next_counts_what_follows_within_the_window(rows: Ragged, window: int, k: int) -> None:
    follows = np.zeros((NUM_ITEMS, NUM_ITEMS))
    for items in lists_of(rows):
        for place, item in enumerate(items):
            for later in items[place + 1 : place + 1 + window]:
                follows[item, later] += 1
    weight = follows / np.sqrt((1 + follows.sum(1))[:, None] * (1 + follows.sum(0)))
    found = taken_next(rows, NUM_ITEMS, k, window, seed=0)
    np.testing.assert_allclose(dense(found), strongest(weight, k), rtol=1e-6)


def test_neither_parts_nor_the_way_of_counting_change_a_table(
    rows: Ragged, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = dense(taken_together(rows, NUM_ITEMS, 5, None, 0))
    following = dense(taken_next(rows, NUM_ITEMS, 5, 2, 0))
    monkeypatch.setattr(neighbours, "PAIRS_AT_ONCE", 30)
    for most_cells in (neighbours.MOST_CELLS, 0):
        monkeypatch.setattr(neighbours, "MOST_CELLS", most_cells)
        np.testing.assert_array_equal(dense(taken_together(rows, NUM_ITEMS, 5, None, 0)), expected)
        np.testing.assert_array_equal(dense(taken_next(rows, NUM_ITEMS, 5, 2, 0)), following)


def test_of_too_many_pairs_some_users_are_counted(
    rows: Ragged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "MOST_PAIRS", 100)
    some = taken_together(rows, NUM_ITEMS, 100, None, seed=1)
    again = taken_together(rows, NUM_ITEMS, 100, None, seed=1)
    monkeypatch.undo()
    everybody = taken_together(rows, NUM_ITEMS, 100, None, seed=1)
    assert 0 < len(some.item) < len(everybody.item)
    assert torch.equal(some.weight, again.weight)


def test_evidence_adds_weighted_rows_and_reads_no_padding(rows: Ragged) -> None:
    table = taken_together(rows, NUM_ITEMS, 100, None, 0)
    item_BS = torch.tensor([[3, 5, 0], [1, 7, 2]])
    weight_BS = torch.tensor([[1.0, -0.5, 0.0], [2.0, 1.0, 1.0]])
    matrix = dense(table)
    expected = np.stack([matrix[3] - 0.5 * matrix[5], 2 * matrix[1] + matrix[7] + matrix[2]])
    np.testing.assert_allclose(table.evidence(item_BS, weight_BS).numpy(), expected, rtol=1e-5)
    source, target = torch.meshgrid(torch.arange(NUM_ITEMS), torch.arange(NUM_ITEMS), indexing="ij")
    np.testing.assert_allclose(table.strength(source, target).numpy(), matrix, rtol=1e-6)


def test_another_catalogue_has_other_numbers(rows: Ragged) -> None:
    table = taken_together(rows, NUM_ITEMS, 100, None, 0)
    number_I = np.array([4, 3, -1, 13, 0, 1, 2, 12, 11, 10, -1, 9])
    kept = np.flatnonzero(number_I >= 0)
    expected = np.zeros((14, 14))
    expected[np.ix_(number_I[kept], number_I[kept])] = dense(table)[np.ix_(kept, kept)]
    found = table.renumbered(number_I, 14)
    np.testing.assert_array_equal(dense(found), expected)
    source, target = torch.meshgrid(torch.arange(14), torch.arange(14), indexing="ij")
    np.testing.assert_array_equal(found.strength(source, target).numpy(), expected)


def test_a_log_without_pairs_has_an_empty_table() -> None:
    alone = Ragged.from_lists([[1], [2]], [[1.0], [1.0]])
    for table in (taken_together(alone, 3, 5, None, 0), taken_next(alone, 3, 5, 2, 0)):
        assert not dense(table).any()
        assert not table.strength(torch.tensor([1]), torch.tensor([2])).any()
