"""Tasks as padded tensors: versions as of a time, the past without a row's own value."""

import numpy as np
import pyarrow as pa
import torch
from hypothesis import given
from hypothesis import strategies as st

from recmeta.metalearn.tensors.batch import Catalogue
from recmeta.metalearn.tensors.encoding import Encoder, FeatureConfig
from recmeta.tasks.item_files import Items, ItemStatistics
from recmeta.tasks.task_set import Ragged, Tasks

ALWAYS = int(np.iinfo(np.int64).min)
END_OF_TIME = int(np.iinfo(np.int64).max)


def make_catalogue(
    versions: list[list[int]], statistics: ItemStatistics | None = None, prior: float = 10.0
) -> Catalogue:
    """Return a catalogue whose item n has a version from each time in `versions[n]`."""
    num_items = len(versions)
    item = np.array([n for n, times in enumerate(versions) for _ in times], np.int32)
    valid_from = np.array([t for times in versions for t in sorted(times)], np.int64)
    ids = pa.array([f"i{n}" for n in range(num_items)])
    attributes = pa.table({"price": np.arange(len(item), dtype=float)})
    encoder = Encoder.fit(
        pa.table({"user_id": ["u"]}),
        ids.take(pa.array(item)),
        attributes,
        np.array([1.0, 5.0], np.float32),
        FeatureConfig(),
    )
    items = Items(ids, item, valid_from, attributes)
    known = statistics or ItemStatistics.empty(num_items)
    return Catalogue(items, known, encoder, prior, torch.device("cpu"))


times = st.integers(-5, 5) | st.sampled_from([ALWAYS])


@given(
    versions=st.lists(st.lists(times, min_size=1, max_size=4, unique=True), min_size=1, max_size=5),
    cuts=st.lists(st.integers(-7, 7) | st.sampled_from([END_OF_TIME, ALWAYS]), min_size=1),
)
def test_versions_are_the_newest_known(versions: list[list[int]], cuts: list[int]) -> None:
    catalogue = make_catalogue(versions)
    first_row = np.cumsum([0] + [len(v) for v in versions])
    for number, known in enumerate(versions):
        at = np.array(cuts, np.int64)
        found = catalogue.versions(np.full(len(cuts), number), at)
        for cut, row in zip(cuts, found, strict=True):
            newest = max(sum(t <= cut for t in known) - 1, 0)
            assert row == first_row[number] + newest


@given(
    data=st.data(),
    num_snapshots=st.integers(1, 3),
    num_items=st.integers(1, 4),
    prior=st.sampled_from([0.5, 10.0]),
)
def test_the_past_leaves_the_row_itself_out(
    data: st.DataObject, num_snapshots: int, num_items: int, prior: float
) -> None:
    """Against a loop over raw events: (item, first snapshot that holds it, value)."""
    event = st.tuples(
        st.integers(0, num_items - 1),
        st.integers(0, num_snapshots - 1),
        st.sampled_from([1.0, 2.5, 4.0, 5.0]),
    )
    events = data.draw(st.lists(event, min_size=1, max_size=20))
    count = np.zeros((num_snapshots, num_items), np.float32)
    total = np.zeros((num_snapshots, num_items), np.float32)
    for item, first, value in events:
        count[first:, item] += 1
        total[first:, item] += value
    statistics = ItemStatistics(np.arange(num_snapshots), count, total)
    catalogue = make_catalogue([[0]] * num_items, statistics, prior)
    mean, scale = catalogue.encoder.value_mean, catalogue.encoder.value_scale

    for own_index, (item, _, own_value) in enumerate(events):
        for snapshot in range(num_snapshots):
            seen = [
                (i, v)
                for n, (i, first, v) in enumerate(events)
                if first <= snapshot and n != own_index and i == item
            ]
            counted = events[own_index][1] <= snapshot
            found = catalogue.past(
                np.array([item]),
                np.array([snapshot]),
                np.array([counted]),
                np.array([own_value], np.float32),
            )[0]
            excess = sum(v - mean for _, v in seen) / (len(seen) + prior) / scale
            np.testing.assert_allclose(
                found, [excess, np.log1p(len(seen)) / 10], rtol=1e-4, atol=1e-5
            )


def test_an_item_that_nobody_met_has_the_global_mean_and_no_popularity() -> None:
    catalogue = make_catalogue([[0], [0]])
    np.testing.assert_array_equal(catalogue.past(np.array([0, 1]), np.array([0, 0])), 0.0)


def test_rows_are_padded_and_in_units_of_the_model() -> None:
    catalogue = make_catalogue([[ALWAYS, 3], [ALWAYS], [0]])
    tasks = Tasks(
        pa.table({"user_id": ["a", "b", "c"]}),
        np.array([2, 4, 4]),
        np.zeros(3, np.int32),
        np.array(["warm"] * 3),
        Ragged.from_lists([[0, 1], [], [0, 2, 0]], [[1.0, 5.0], [], [3.0, 3.0, 5.0]]),
        Ragged.from_lists([[], [], []], [[], [], []]),
    )
    rows = catalogue.support(tasks).rows
    assert rows.mask_BR.tolist() == [
        [True, True, False],
        [False, False, False],
        [True, True, True],
    ]
    assert rows.item_BR.tolist() == [[0, 2, 0], [0, 0, 0], [1, 3, 1]]  # price rose at time 3
    assert rows.value_BR.tolist() == [[-1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    assert rows.statistics_BRD.shape == (3, 3, 2)
    assert catalogue.rows(tasks.query, tasks).item_BR.shape == (3, 0)
