"""A Delta table, read at its version at that time."""

from collections.abc import Iterator

import polars as pl
import pyarrow.fs as pafs

from recmeta.errors import UserError
from recmeta.logs.mapping import Source
from recmeta.logs.reading.log_format import LogFormat, SourceFile, TableFolder, Wanted, positions
from recmeta.logs.reading.typed_rows import TYPED_BATCH_ROWS, numbered, paths_of, top_level
from recmeta.workspace import check_delta_path, storage_options


def _read(source: Source, file: SourceFile, wanted: Wanted) -> Iterator[pl.DataFrame]:
    return numbered(_batches(file, wanted), wanted)


def _batches(file: SourceFile, wanted: Wanted) -> Iterator[pl.DataFrame]:
    if "://" not in file.path:
        check_delta_path(file.path, "the log")
    table = pl.scan_delta(
        file.path, version=file.version, storage_options=storage_options(file.path)
    )
    schema = table.collect_schema()
    positions(paths_of(schema), wanted, file.name)
    rows = table.select(top_level(schema, wanted))
    yield rows.clear().collect()  # a table without rows has columns, too
    yield from rows.collect_batches(
        chunk_size=TYPED_BATCH_ROWS, maintain_order=True, engine="streaming"
    )


def _column_names(source: Source, file: SourceFile) -> list[str]:
    from deltalake import DeltaTable

    fields = DeltaTable(file.path, file.version, storage_options(file.path)).schema().fields
    return [field.name for field in fields]


def _paths(source: Source, file: SourceFile) -> list[str]:
    table = pl.scan_delta(
        file.path, version=file.version, storage_options=storage_options(file.path)
    )
    return paths_of(table.collect_schema())


def _open(path: str) -> SourceFile:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        version = DeltaTable(path, storage_options=storage_options(path)).version()
    except DeltaError as error:
        raise UserError(f"cannot open the Delta table at {path!r}: {error}") from error
    return SourceFile(
        name=path.rstrip("/").rsplit("/", 1)[-1],
        format="delta",
        filesystem=pafs.LocalFileSystem(),
        path=path,
        version=version,
    )


def _content_id(file: SourceFile) -> str:
    from deltalake import DeltaTable

    table = DeltaTable(file.path, file.version, storage_options(file.path))
    return f"delta:{table.metadata().id}:{file.version}"


FORMAT = LogFormat(
    read=_read,
    column_names=_column_names,
    paths=_paths,
    table=TableFolder(holds="_delta_log", open=_open, content_id=_content_id),
)
