"""Groups of users of similar length: everyone once, little padding, the same rows."""

import itertools

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from recmeta.metalearn.tensors.batch import NUM_STATISTICS, Rows, Support, TaskBatch
from recmeta.metalearn.tensors.grouping import MOST_ROWS, cuts, groups_by_length

lengths = st.lists(st.tuples(st.integers(0, 600), st.integers(0, 40)), max_size=80)


@given(lengths, st.sampled_from([1, 100, 8_000]), st.sampled_from([0, 30]))
def test_every_user_is_in_one_group(
    pairs: list[tuple[int, int]], most_rows: int, least_rows: int
) -> None:
    support, query = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
    bounds = cuts(support, query, most_rows, least_rows)
    assert bounds[0] == 0
    assert bounds[-1] == len(pairs)
    if pairs:
        assert all(first < last for first, last in itertools.pairwise(bounds))
    for first, last in itertools.pairwise(bounds):
        longest = max(support[last - 1] + query[first:last].max(), least_rows)
        assert (last - first) * longest <= most_rows or last - first == 1


def rows_of(length_B: np.ndarray, rng: np.random.Generator) -> Rows:
    shape = (len(length_B), int(length_B.max(initial=0)))
    mask = torch.from_numpy(np.arange(shape[1]) < length_B[:, None])
    draw = torch.from_numpy(rng.integers(1, 1_000, shape)) * mask
    statistics = torch.from_numpy(rng.random((*shape, NUM_STATISTICS), np.float32))
    return Rows(draw, statistics * mask[..., None], draw.float(), mask)


@given(lengths.filter(bool), st.integers(0, 99))
def test_groups_hold_the_same_rows(pairs: list[tuple[int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    support_B, query_B = np.array(pairs, np.int64).T
    batch = TaskBatch(Support({}, rows_of(support_B, rng)), rows_of(query_B, rng))
    groups = groups_by_length(batch)
    found = torch.cat([group.user_B for group in groups])
    assert sorted(found.tolist()) == list(range(len(pairs)))
    for group in groups:
        sides = ((group.support, batch.support.rows), (group.query, batch.query))
        for cut, whole in sides:
            for name, value in vars(cut).items():
                full = getattr(whole, name)[group.user_B]
                assert torch.equal(value, full[:, : value.shape[1]]), name
                assert not full[:, value.shape[1] :].any(), name


def test_little_padding_on_lengths_as_in_movielens() -> None:
    """Warm users of MovieLens 1M have 3 to 90 support rows, many few and few many."""
    rng = np.random.default_rng(0)
    support_B = np.sort(np.clip(rng.gamma(3.2, 14.3, 1_024), 13, 100).astype(np.int64) - 10)
    query_B = np.full(len(support_B), 10)
    bounds = cuts(support_B, query_B, MOST_ROWS)
    padded = sum(
        (last - first) * (support_B[last - 1] + 10) for first, last in itertools.pairwise(bounds)
    )
    rows = (support_B + query_B).sum()
    assert (padded - rows) / padded < 0.1
