"""the lists of a run ──▶ a file to send them out: with titles, users in order, complete or absent.

    lists.csv, lists.parquet   a row per user and rank
    lists.jsonl                a line per user, with the list in it
    lists/                     a Delta table of rows, whose next version they become

Only a part of the users is in memory at a time.
"""

import contextlib
import dataclasses
import itertools
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from recmeta import schema
from recmeta.errors import UserError
from recmeta.logs import tables
from recmeta.workspace import Folder, Workspace, check_delta_path, storage_options
from recmeta.workspace.folder import sync_folder

BECAUSE_TITLE = "because_title"
REASONS = (schema.BECAUSE_ITEM, BECAUSE_TITLE)
OF_USER = (schema.USER_ID, schema.MODEL_VERSION, schema.SCORED_AT)
"""Columns that are the same in all rows of a user; a line of JSON has them once."""
RECOMMENDATIONS = "recommendations"
"""The key of a user's list in a line of JSON."""
COLUMNS = (
    schema.USER_ID,
    schema.RANK,
    schema.ITEM_ID,
    schema.TITLE,
    schema.RELATIVE_LIKELIHOOD,
    schema.SCORE,
    schema.UNCERTAINTY,
    *REASONS,
    schema.LISTED_BY,
    schema.PROPENSITY,
    schema.MODEL_VERSION,
    schema.SCORED_AT,
)
ROWS_AT_ONCE = 500_000
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%.6fZ"
"""The format of times in texts; typed formats keep times."""
Parts = Iterator[pl.DataFrame]


@dataclasses.dataclass(frozen=True)
class Target:
    """Where lists are to go."""

    location: str
    """A path or an object-store URL, without a slash at its end."""
    write: Callable[[IO[bytes], Parts], None] | None
    """Writes rows into a file; None for a Delta table."""


def target_of(location: str, workspace: Workspace) -> Target:
    """Return where lists are to go. Call this before they are made, since it can fail.

    Raises:
        UserError: for an ending that names no format, a folder that is not there or holds something
            else, or a place in the workspace.
    """
    place = location.removeprefix("file://").rstrip("/") or location
    write = None
    if not location.endswith("/"):
        ending = Path(place).suffix.lower()
        if ending and ending not in WRITERS:
            raise UserError(
                f"--out is {location!r}; it must end in {', '.join(WRITERS)}, or in / for a Delta "
                "table."
            )
        write = WRITERS.get(ending)
    if lies_in(workspace, place):
        raise UserError(f"--out {location!r} lies in the workspace: name a place outside of it.")
    if "://" in place:
        Folder.at(place)  # so that an address that nobody understands is refused now
        if write is None:
            _check_delta(location, place)
        return Target(place, write)
    path = Path(os.path.abspath(os.path.expanduser(place)))
    if not path.parent.is_dir():
        raise UserError(
            f"--out {location!r}: the folder {str(path.parent)!r} does not exist: create it."
        )
    if write is not None and path.is_dir():
        raise UserError(f"--out {location!r} is a folder: name a file, or end it in / for Delta.")
    if write is None:
        check_delta_path(str(path), "--out")
        is_free = not path.exists() or (path.is_dir() and not any(path.iterdir()))
        if not is_free and not (path.is_dir() and DeltaTable.is_deltatable(str(path))):
            raise UserError(
                f"--out {location!r} is there and is no Delta table: name another folder, or a "
                f"file that ends in {', '.join(WRITERS)}."
            )
        _check_delta(location, str(path))
    return Target(str(path), write)


def lies_in(workspace: Workspace, location: str) -> bool:
    """Return whether a path or an object-store URL is the workspace, or below it."""
    place = location.removeprefix("file://").rstrip("/") or location
    if "://" in place:
        return f"{place}/".startswith(f"{workspace.location.rstrip('/')}/")
    path = Path(os.path.abspath(os.path.expanduser(place))).resolve()
    return workspace.is_local and path.is_relative_to(Path(workspace.path).resolve())


def _check_delta(location: str, place: str) -> None:
    """Raise UserError where another Delta table than one of lists is at a place."""
    options = storage_options(place)
    try:
        if not DeltaTable.is_deltatable(place, storage_options=options):
            return
        known = {field.name for field in DeltaTable(place, storage_options=options).schema().fields}
    except (DeltaError, OSError) as error:
        raise UserError(f"--out {location!r} cannot be read: {error}.") from error
    missing = [name for name in (schema.USER_ID, schema.RANK, schema.ITEM_ID) if name not in known]
    if missing:
        raise UserError(
            f"--out {location!r} is a Delta table without the column {missing[0]!r}, so it does "
            "not hold lists: name another folder."
        )


def write(workspace: Workspace, run: str, target: Target, *, reasons: bool = True) -> int:
    """Write a run's lists, by user and rank. An earlier file stays until they are complete.

    Args:
        reasons: whether the file names the interaction that is each item's reason.

    Returns:
        The number of rows.

    Raises:
        UserError: if the place cannot be written to.
    """
    total = 0

    def counted() -> Parts:
        nonlocal total
        for part in rows(workspace, run, reasons=reasons):
            total += part.height
            yield part

    try:
        if target.write is None:
            _write_delta(target.location, counted())
        else:
            with _replacing(target.location, workspace) as file:
                target.write(file, counted())
    except (DeltaError, OSError) as error:
        raise UserError(f"--out {target.location!r} cannot be written: {error}.") from error
    return total


def rows(workspace: Workspace, run: str, *, reasons: bool = True) -> Parts:
    """Yield a run's lists with titles, a part of the users at a time; at least one frame, which has
    the columns."""
    delta = tables.open_table(workspace, schema.RECOMMENDATIONS)  # one version for all parts
    of_run = pl.scan_delta(delta).filter(pl.col(schema.RUN) == run)
    firsts = of_run.filter(pl.col(schema.RANK) == 1).select(pl.col(schema.USER_ID).sort())
    users = firsts.collect().to_series()
    longest = of_run.select(pl.col(schema.RANK).max()).collect().item() or 1
    at_once = max(1, ROWS_AT_ONCE // longest)
    known = titles(workspace)
    for start in range(0, max(len(users), 1), at_once):
        some = of_run
        if len(users):
            last = min(start + at_once, len(users)) - 1
            some = of_run.filter(
                pl.col(schema.USER_ID).is_between(pl.lit(users[start]), pl.lit(users[last]))
            )
        yield with_titles(some.collect(), known, reasons=reasons)


def first_lists(
    workspace: Workspace, run: str, num_users: int, num_places: int
) -> dict[str, list[dict[str, Any]]]:
    """Return the first places of the lists of a run's first users, by user."""
    lists = tables.scan(workspace, schema.RECOMMENDATIONS).filter(pl.col(schema.RUN) == run)
    users = lists.filter(pl.col(schema.RANK) == 1).select(
        pl.col(schema.USER_ID).bottom_k(num_users)
    )
    first = lists.join(users, on=schema.USER_ID, how="semi")
    shown = first.filter(pl.col(schema.RANK) <= num_places).collect()
    found = with_titles(shown, titles(workspace)).partition_by(schema.USER_ID, as_dict=True)
    return {str(user): rows.drop(OF_USER).to_dicts() for (user,), rows in sorted(found.items())}


def with_titles(lists: pl.DataFrame, known: pl.DataFrame, *, reasons: bool = True) -> pl.DataFrame:
    """Return lists, by user and rank, as the files have them.

    Args:
        lists: rows of the table of recommendations.
        known: of `titles`.
    """
    found = lists.join(known, on=schema.ITEM_ID, how="left")
    if schema.BECAUSE_ITEM in lists.columns:  # an earlier table has fewer
        reason = {schema.ITEM_ID: schema.BECAUSE_ITEM, schema.TITLE: BECAUSE_TITLE}
        found = found.join(known.rename(reason), on=schema.BECAUSE_ITEM, how="left")
    kept = [name for name in COLUMNS if name in found.columns]
    kept = [name for name in kept if reasons or name not in REASONS]
    return found.select(kept).sort(schema.USER_ID, schema.RANK)


def titles(workspace: Workspace) -> pl.DataFrame:
    """Return `item_id` and `title` of every item that has one, as it is called now."""
    nothing = pl.DataFrame(schema={schema.ITEM_ID: pl.String, schema.TITLE: pl.String})
    if not tables.is_there(workspace, schema.ITEMS):
        return nothing
    items = tables.scan(workspace, schema.ITEMS)
    if items.collect_schema().get(schema.TITLE) != pl.String:
        return nothing
    return (
        items.select(schema.ITEM_ID, schema.VALID_FROM, schema.TITLE)
        .drop_nulls(schema.TITLE)
        .sort(schema.ITEM_ID, schema.VALID_FROM)
        .unique(schema.ITEM_ID, keep="last")
        .select(schema.ITEM_ID, schema.TITLE)
        .collect()
    )


def _write_csv(file: IO[bytes], parts: Parts) -> None:
    for number, part in enumerate(parts):
        part.write_csv(file, include_header=not number, datetime_format=TIME_FORMAT)


def _write_parquet(file: IO[bytes], parts: Parts) -> None:
    tables_of_parts = map(_arrow, parts)
    first = next(tables_of_parts)
    with pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
        for table in itertools.chain([first], tables_of_parts):
            writer.write_table(table)


def _write_jsonl(file: IO[bytes], parts: Parts) -> None:
    for part in parts:
        listed = [name for name in part.columns if name not in OF_USER]
        lines = part.with_columns(pl.col(schema.SCORED_AT).dt.to_string(TIME_FORMAT))
        of_users = lines.group_by(OF_USER, maintain_order=True)
        of_users.agg(pl.struct(listed).alias(RECOMMENDATIONS)).write_ndjson(file)


WRITERS = {".csv": _write_csv, ".parquet": _write_parquet, ".jsonl": _write_jsonl}
"""The writer of each format, by the ending of the file."""


def _write_delta(location: str, parts: Parts) -> None:
    found = map(_arrow, parts)
    first = next(found)
    batches = (batch for table in itertools.chain([first], found) for batch in table.to_batches())
    write_deltalake(
        location,
        pa.RecordBatchReader.from_batches(first.schema, batches),
        mode="overwrite",
        schema_mode="overwrite",
        storage_options=storage_options(location),
    )


def _arrow(part: pl.DataFrame) -> pa.Table:
    return part.to_arrow(compat_level=pl.CompatLevel.oldest())


@contextlib.contextmanager
def _replacing(location: str, workspace: Workspace) -> Iterator[IO[bytes]]:
    """Yield a file that replaces the one at a path or a URL if the block ends without an error."""
    folder, name = os.path.split(location)
    if "://" in location:  # a PUT is atomic
        place = Folder.at(folder)
        with workspace.temporary_folder() as local, open(f"{local}/{name}", "w+b") as file:
            yield file
            file.seek(0)
            with place.filesystem.open_output_stream(place.address(name)) as stream:
                shutil.copyfileobj(file, stream)
        return
    unfinished = os.path.join(folder, f".{name}.{uuid.uuid4().hex[:8]}")
    try:
        with open(unfinished, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(location):  # who could read it still can
            shutil.copymode(location, unfinished)
        os.replace(unfinished, location)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise
    sync_folder(folder)
