"""Parquet files."""

from collections.abc import Iterator

import polars as pl
import pyarrow.parquet as pq

from recmeta.logs.mapping import Source
from recmeta.logs.reading.log_format import LogFormat, SourceFile, Wanted, positions
from recmeta.logs.reading.typed_rows import TYPED_BATCH_ROWS, numbered, paths_of, top_level


def _read(source: Source, file: SourceFile, wanted: Wanted) -> Iterator[pl.DataFrame]:
    return numbered(_batches(file, wanted), wanted)


def _batches(file: SourceFile, wanted: Wanted) -> Iterator[pl.DataFrame]:
    with file.open_stored() as handle:
        parquet = pq.ParquetFile(handle, coerce_int96_timestamp_unit="us")
        schema = pl.DataFrame(parquet.schema_arrow.empty_table()).schema
        positions(paths_of(schema), wanted, file.name)
        columns = top_level(schema, wanted)
        if not parquet.metadata.num_rows:
            yield pl.DataFrame(parquet.schema_arrow.empty_table()).select(columns)
        for batch in parquet.iter_batches(TYPED_BATCH_ROWS, columns=columns):
            yield pl.DataFrame(pl.from_arrow(batch)).select(columns)


def _paths(source: Source, file: SourceFile) -> list[str]:
    with file.open_stored() as handle:
        schema = pq.read_schema(handle)
    return paths_of(pl.DataFrame(schema.empty_table()).schema)


def _column_names(source: Source, file: SourceFile) -> list[str]:
    with file.open_stored() as handle:
        names: list[str] = pq.read_schema(handle).names
    return names


FORMAT = LogFormat(
    read=_read, column_names=_column_names, paths=_paths, endings=(".parquet", ".pq")
)
