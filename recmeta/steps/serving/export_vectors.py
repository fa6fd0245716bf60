"""adapted users ──▶ user capsules and item vectors: for other rankers, in files and in tables.

    items.parquet   a row per item
    users.parquet   a row per adapted user
    vectors.json    of which model they are, and what their columns mean; it is written first

The tables `item_vectors` and `user_capsules` get the same rows. Only a part of the users is in
memory at a time.
"""

import contextlib
import dataclasses
import datetime
import uuid
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from deltalake import write_deltalake

from recmeta import schema
from recmeta.exporting.capsules import ABOUT_FILE, ITEMS_FILE, USERS_FILE, VectorSpace
from recmeta.logs import tables
from recmeta.manifest import Manifest
from recmeta.metalearn.model import Model
from recmeta.registry.models import versions
from recmeta.registry.models.versions import Version
from recmeta.serving.ranking import AdaptedUsers
from recmeta.steps.parts import catalogue
from recmeta.steps.serving.adapt import AdaptOutputs, shard_files
from recmeta.steps.serving.export_folder import export_folder
from recmeta.workspace import Folder, Workspace, sealed, works

USERS_AT_ONCE = 500


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportedVectors:
    """What was written."""

    folder: str
    model_version: str
    fingerprint: str
    """See `recmeta.exporting.fingerprint`."""
    num_items: int
    num_users: int
    width: int
    """Numbers of a vector."""


def folder_for(workspace: Workspace, location: str) -> Folder:
    """Return the folder to write vectors into. Call this before users are adapted to, since it can
    fail.

    Raises:
        UserError: see `export_folder`.
    """
    names = (ITEMS_FILE, USERS_FILE, ABOUT_FILE)
    return export_folder(workspace, "--vectors", location, names, ABOUT_FILE)


@works
def run(
    workspace: Workspace,
    version: Version,
    location: str,
    adapted: Manifest[AdaptOutputs] | None = None,
) -> ExportedVectors:
    """Write a model's items and adapted users as vectors.

    A run's capsules appear in the table in one commit; doing it again replaces them.

    Args:
        location: of the folder, which is made where it is not there.
        adapted: the manifest of adapt; if None, there are item vectors alone.

    Raises:
        UserError: for a learner that has no capsules, or see `folder_for`.
    """
    folder = folder_for(workspace, location)
    states = None
    if adapted is None:
        model = catalogue.model_of_now(workspace, version)
    else:
        states = sealed(workspace / adapted.outputs.states)
        saved = Model.load(versions.model_folder(workspace, version), torch.device("cpu"))
        model = catalogue.as_written(saved, states)
    space = VectorSpace(model, version.version)
    now = datetime.datetime.now(datetime.UTC)
    items, about = space.items(exported_at=now), space.about()
    folder.write_json(ABOUT_FILE, about)
    folder.write_parquet(ITEMS_FILE, items)
    tables.create(workspace, schema.ITEM_VECTORS)  # an earlier version's may lack a column
    tables.overwrite(workspace, schema.ITEM_VECTORS, items)
    num_users = 0
    if adapted is None or states is None:
        folder.delete(USERS_FILE)
    else:
        parts = _capsules(space, states, adapted)
        num_users = _write(folder, USERS_FILE, parts)
        _publish(workspace, folder, adapted.key)
    return ExportedVectors(
        folder=folder.path,
        model_version=version.version,
        fingerprint=space.fingerprint,
        num_items=len(items),
        num_users=num_users,
        width=max(last for _, last in about["blocks"].values()),
    )


def _capsules(
    space: VectorSpace, states: Folder, adapted: Manifest[AdaptOutputs]
) -> Iterator[pa.Table]:
    """Yield the capsules of all users, part by part."""
    clock = datetime.datetime.fromisoformat(adapted.finished_at)
    for shard in range(adapted.outputs.num_shards):
        of_users, _ = shard_files(shard)
        users = AdaptedUsers.from_bytes(states.read_bytes(of_users))
        for some in users.batches(USERS_AT_ONCE):
            yield space.capsules(some, run=adapted.key, adapted_at=clock)


def _write(folder: Folder, name: str, parts: Iterator[pa.Table]) -> int:
    """Write a Parquet file that takes the place of an earlier one when it is whole; return the
    number of its rows."""
    partial = folder.address(f".{name}.{uuid.uuid4().hex[:8]}")
    columns, num_rows = schema.USER_CAPSULES.columns, 0
    try:
        with (
            folder.filesystem.open_output_stream(partial) as stream,
            pq.ParquetWriter(stream, columns, compression="zstd") as file,
        ):
            for part in parts:
                file.write_table(part)
                num_rows += len(part)
        folder.filesystem.move(partial, folder.address(name))
    except BaseException:  # users' data must not stay under a name that nobody looks for
        with contextlib.suppress(OSError):
            folder.filesystem.delete_file(partial)
        raise
    return num_rows


def _publish(workspace: Workspace, folder: Folder, run: str) -> None:
    """Make the capsules of a file the run's rows of the table, in one commit."""
    tables.create(workspace, schema.USER_CAPSULES)

    def change() -> None:
        delta = tables.open_table(workspace, schema.USER_CAPSULES)
        with folder.filesystem.open_input_file(folder.address(USERS_FILE)) as stream:
            batches = pq.ParquetFile(stream).iter_batches(USERS_AT_ONCE)
            write_deltalake(
                delta,
                pa.RecordBatchReader.from_batches(schema.USER_CAPSULES.columns, batches),
                mode="overwrite",
                predicate=f"{schema.RUN} = '{run}'",
            )

    tables.redo(workspace, change)
