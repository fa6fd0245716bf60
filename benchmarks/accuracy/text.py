"""The texts of a data set's items, for learners that read them, which have rows of their own.

Published results on these protocols had no text.
"""

import dataclasses
import hashlib
from pathlib import Path

import polars as pl
import pyarrow as pa

from benchmarks.accuracy.log import Log
from benchmarks.accuracy.places import folder_of
from recmeta.errors import UserError
from recmeta.features.text_vectors import MODEL, with_text_vectors
from recmeta.workspace import Folder

FILE = "items_text.parquet"
_TITLE, _PLOT = "title", "plot"


def with_texts(log: Log, data: Path | None, work: Folder) -> Log:
    """Return the log with a vector of title and plot for each item that has any.

    Args:
        data: folder with the data sets.
        work: where the vectors are kept.

    Raises:
        UserError: where the data set's texts are not there, or the extra is not installed.
    """
    name = log.about["name"]
    place = folder_of(name, data)
    if not (place / FILE).exists():
        raise UserError(
            f"{str(place / FILE)!r} is missing, which learners with text read: put it there, or "
            "name learners without text with --learners."
        )
    texts = (
        pl.read_parquet(place / "items.parquet", columns=["item_id", _TITLE])
        .join(pl.read_parquet(place / FILE), on="item_id", how="left")
        .select(pl.col("item_id").cast(pl.String), _TITLE, pl.col("x_plot").alias(_PLOT))
    )
    ordered = pl.DataFrame({"item_id": log.items.item_id.to_pylist()}).join(
        texts, on="item_id", how="left", maintain_order="left"
    )
    columns = {n: pa.array(ordered[n].to_list(), pa.string()) for n in (_TITLE, _PLOT)}
    bare = dataclasses.replace(log.items, attributes=pa.table(columns))
    assert len(bare.item) == len(ordered), "an item of a protocol has one version"
    read = with_text_vectors(bare, (_TITLE, _PLOT), work / "text_vectors" / MODEL)
    vectors = read.attributes.drop_columns([_TITLE, _PLOT])
    attributes = log.items.attributes
    for column in vectors.column_names:
        attributes = attributes.append_column(column, vectors[column])
    with (place / FILE).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(log.about["sha256"].encode())
    return dataclasses.replace(
        log,
        items=dataclasses.replace(log.items, attributes=attributes),
        about={**log.about, "sha256": digest.hexdigest()},
    )
