"""Items that were added after a model was trained, which it scores by their content."""

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from deltalake import DeltaTable

from recmeta import schema
from recmeta.logs import tables
from recmeta.metalearn.model import Model
from recmeta.registry.models import versions
from recmeta.registry.models.versions import Version
from recmeta.tasks.item_files import (
    Items,
    ItemStatistics,
    read_items,
    read_statistics,
    write_items,
    write_statistics,
)
from recmeta.workspace import Folder, MemoryFolder, Sealed, Workspace
from recmeta.workspace.sealed import DIGESTS

ITEMS_FILE = "items.arrow"
FILES = (ITEMS_FILE, "statistics.arrow")
"""The file of a catalogue that was written beside the states adapted on it."""


def items_table(workspace: Workspace) -> DeltaTable | None:
    """Return the table of items at its newest version; None if there is none."""
    if not tables.is_there(workspace, schema.ITEMS):
        return None
    return tables.opened(workspace, schema.ITEMS)


def with_new_items(model: Model, table: DeltaTable | None) -> tuple[Model, int]:
    """Return a model over its catalogue and the further items of a table.

    They come after the model's own, whose numbers stay, with their newest attributes and without a
    past. An attribute that the catalogue does not have is left out.

    Returns:
        The model and how many items are new to it.
    """
    if table is None:
        return model, 0
    known = model.catalogue.items
    ids = pl.DataFrame({schema.ITEM_ID: pl.Series(known.item_id, dtype=pl.String)}).lazy()
    new = (
        pl.scan_delta(table)
        .join(ids, on=schema.ITEM_ID, how="anti")
        .sort(schema.ITEM_ID, schema.VALID_FROM)
        .unique(schema.ITEM_ID, keep="last", maintain_order=True)
        .collect()
    )
    if not new.height:
        return model, 0
    rows = schema.with_plain_types(new.to_arrow())
    items = Items(
        pa.concat_arrays([known.item_id, rows[schema.ITEM_ID].combine_chunks()]),
        np.concatenate([known.item, len(known.item_id) + np.arange(new.height, dtype=np.int32)]),
        np.concatenate([known.valid_from, np.full(new.height, schema.ALWAYS)]),
        pa.concat_tables([known.attributes, _aligned(rows, known.attributes.schema)]),
    )
    past = model.catalogue.statistics
    nothing = np.zeros((len(past.time), new.height), np.float32)
    statistics = ItemStatistics(
        past.time,
        np.concatenate([past.num_users, nothing], 1),
        np.concatenate([past.sum_values, nothing], 1),
    )
    return model.on(items, statistics), new.height


def model_of_now(workspace: Workspace, version: Version) -> Model:
    """Return a version of the model over its catalogue and the items that came since, on the
    CPU."""
    saved = Model.load(versions.model_folder(workspace, version), torch.device("cpu"))
    return with_new_items(saved, items_table(workspace))[0]


def write(folder: Folder, model: Model) -> None:
    """Write the catalogue of a model."""
    write_statistics(folder, model.catalogue.statistics)
    write_items(folder, model.catalogue.items)


def as_written(model: Model, folder: Folder) -> Model:
    """Return a model over the catalogue in a folder, or over its own if there is none."""
    if not folder.exists(ITEMS_FILE):
        return model
    return model.on(read_items(folder), read_statistics(folder))


def copied(folder: Sealed) -> MemoryFolder:
    """Return a saved model's files, to be sent to another process."""
    names = folder.names() if folder.digests is None else [*folder.digests, DIGESTS]
    return MemoryFolder.copy_of(folder, [name for name in names if "." in name])


def _aligned(rows: pa.Table, columns: pa.Schema) -> pa.Table:
    """Return the rows with these columns; one that they do not have is null."""
    filled = [
        rows[f.name].cast(f.type) if f.name in rows.column_names else pa.nulls(len(rows), f.type)
        for f in columns
    ]
    if not filled:
        return rows.select([])
    return pa.table(filled, schema=columns)
