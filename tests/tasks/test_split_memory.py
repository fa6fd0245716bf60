"""Memory holds parts of a log, never all of it."""

import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pyarrow import dataset
from split_frames import log_dataset

from recmeta import schema
from recmeta.tasks.placing.placement import ROW
from recmeta.tasks.placing.split_rows import SplitRows
from recmeta.tasks.split_config import SplitConfig
from recmeta.tasks.splits import interactions as module
from recmeta.tasks.splits.interactions import split_interactions

NUM_ROWS = 400_000
NUM_USERS = 4_000


def log(num_rows: int) -> dataset.Dataset:
    rng = np.random.default_rng(0)
    ids = pl.Series(np.arange(NUM_USERS)).cast(pl.String)
    columns = {
        schema.USER_ID: ids.gather(rng.integers(0, NUM_USERS, num_rows)),
        schema.ITEM_ID: ids.gather(rng.integers(0, NUM_USERS, num_rows)),
        schema.TIMESTAMP: pl.Series(np.arange(num_rows)).cast(pl.Datetime("us", "UTC")),
        schema.EVENT: pl.repeat("rating", num_rows, eager=True),
        schema.VALUE: rng.random(num_rows),
    }
    return log_dataset(pl.DataFrame(columns))


def peak_bytes(rows_per_part: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, SplitRows]:
    """Return the most memory that numpy and Python held while splitting, and the split."""
    monkeypatch.setattr(module, "ROWS_PER_PART", rows_per_part)
    monkeypatch.setattr(module, "ROWS_PER_BATCH", 20_000)
    table, ids = log(NUM_ROWS), pl.Series(np.arange(NUM_USERS)).cast(pl.String).sort()
    items = pl.LazyFrame({schema.ITEM_ID: ids})
    tracemalloc.start()
    try:
        found = split_interactions(table, ids, items, SplitConfig(), seed=0)
        for piece in found.pieces():
            assert len(piece)
        return tracemalloc.get_traced_memory()[1], found
    finally:
        tracemalloc.stop()


def test_the_peak_follows_the_part_and_not_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, one = peak_bytes(NUM_ROWS, monkeypatch)
    parted, many = peak_bytes(NUM_ROWS // 20, monkeypatch)
    assert len(one.parts) == 1
    assert len(many.parts) == 20
    assert whole > NUM_ROWS * ROW.itemsize  # all rows at once, so that the measure sees them
    assert parted < whole / 3
    assert parted < NUM_ROWS * ROW.itemsize  # not even as much as the rows themselves


def test_nothing_stays_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    _, found = peak_bytes(NUM_ROWS // 4, monkeypatch)
    names = sorted(path.name for path in tmp_path.glob("*/*"))
    assert names == sorted(f"{c}-{n}" for c in ("time", "item", "value") for n in range(4))
    del found
    assert list(tmp_path.iterdir()) == []
