"""Arrays on disk: what was put comes back, and the folder goes with its owner."""

import gc
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmeta.tasks.placing.row_files import RowFiles

pieces = st.lists(st.lists(st.integers(-5, 5), max_size=6), max_size=5)


@given(pieces, st.data())
def test_any_stretch_of_what_was_appended_is_read(
    numbers: list[list[int]], data: st.DataObject
) -> None:
    files = RowFiles()
    for piece in numbers:
        files.append("a", np.array(piece, np.int64))
    whole = [number for piece in numbers for number in piece]
    assert files.read("a", np.int64).tolist() == whole
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    assert files.read("a", np.int64, start, stop).tolist() == whole[start:stop]


def test_names_are_apart_and_removed_ones_are_empty() -> None:
    files = RowFiles()
    records = np.array([(1, 2.5), (3, 4.5)], [("x", "<i4"), ("y", "<f4")])
    files.append("records", records)
    files.append("other", np.arange(3, dtype=np.int32))
    assert files.read("records", records.dtype).tolist() == [(1, 2.5), (3, 4.5)]
    files.remove("records")
    files.remove("never put")
    assert files.read("records", records.dtype).tolist() == []
    assert files.read("other", np.int32).tolist() == [0, 1, 2]


def test_the_folder_goes_with_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files = RowFiles()
    files.append("a", np.arange(3))
    assert len(list(tmp_path.glob("*/a"))) == 1
    del files
    gc.collect()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux alone has a disk that is full")
@pytest.mark.parametrize("number", [1, 3, 100_000])
def test_rows_that_a_full_disk_does_not_take_are_not_lost_in_silence(number: int) -> None:
    files = RowFiles()
    (files._folder / "a").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        files.append("a", np.zeros(number, [("user", np.int32), ("time", np.int64)]))
