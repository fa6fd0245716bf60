"""Texts of a data set's items reach the learners that read them, item by item."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small_logs import small_log

from benchmarks.accuracy import text
from benchmarks.accuracy.log import Log
from recmeta.errors import UserError
from recmeta.features.text_vectors import MODEL, TEXT_VECTOR, keep, key_of
from recmeta.workspace import Folder


@pytest.fixture
def log() -> Log:
    plain = small_log(num_users=20, num_items=16)
    return dataclasses.replace(plain, about={"name": "films", "sha256": "of the log"})


def write_texts(log: Log, data: Path, plot: str) -> None:
    """Write the files in another order than the log's items; the first item has no plot."""
    ids = log.items.item_id.to_pylist()[::-1]
    folder = data / "films"
    folder.mkdir(parents=True, exist_ok=True)
    titles = [f"Film {i}" for i in ids]
    pl.DataFrame({"item_id": ids, "title": titles}).write_parquet(folder / "items.parquet")
    plots = [f"{plot} {i}" for i in ids]
    plots[-1] = None
    pl.DataFrame({"item_id": ids, "x_plot": plots}).write_parquet(folder / text.FILE)


def test_each_item_has_the_vector_of_its_title_and_plot(log: Log, tmp_path: Path) -> None:
    data, work = tmp_path / "data", Folder.at(tmp_path / "work")
    write_texts(log, data, "About")
    ids = log.items.item_id.to_pylist()
    texts = [f"Film {i}. About {i}" for i in ids]
    texts[0] = f"Film {ids[0]}"
    vectors = np.eye(len(ids), dtype=np.float32)
    known = dict(zip([key_of(t) for t in texts], vectors, strict=True))
    keep(work / "text_vectors" / MODEL, known)
    told = text.with_texts(log, data, work)
    found = told.items.attributes[TEXT_VECTOR].to_pylist()
    np.testing.assert_array_equal(found, vectors)
    assert told.items.attributes.column_names == [*log.items.attributes.column_names, TEXT_VECTOR]
    assert told.about["sha256"] != log.about["sha256"]


def test_a_data_set_without_texts_says_so(log: Log, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"items_text\.parquet.*--learners"):
        text.with_texts(log, tmp_path, Folder.at(tmp_path))
