"""JSON lines: an object a line."""

import contextlib
import json
from collections.abc import Iterator

import polars as pl

from recmeta.logs.mapping import Source
from recmeta.logs.reading.lines import TEXT, read_lines
from recmeta.logs.reading.log_format import (
    UNPARSABLE_JSON,
    LogFormat,
    SourceFile,
    Wanted,
    positions,
)
from recmeta.schema import RAW

NUM_OBJECTS = 1000
"""Objects whose keys are looked at."""


def _read(source: Source, file: SourceFile, wanted: Wanted) -> Iterator[pl.DataFrame]:
    text = pl.col(TEXT)
    fields = [
        text.str.json_path_match(f"$[{json.dumps(column)}]").alias(role)
        for role, column in wanted.columns.items()
    ]
    is_object = text.str.strip_chars().str.starts_with("{")
    parses = text.str.json_path_match("$").is_not_null()
    unseen = set(wanted.columns)
    with file.open() as stream:
        for lines, _ in read_lines(stream, source.encoding):
            rows = lines.filter(text.str.strip_chars() != "")
            batch = rows.with_columns((~(is_object & parses)).alias(UNPARSABLE_JSON), *fields)
            if len(unseen) == len(wanted.columns) and batch.height:
                unseen = {role for role in unseen if batch[role].null_count() == batch.height}
                if unseen and not batch[UNPARSABLE_JSON].all():
                    _check_keys(batch, wanted, file)
            yield batch.rename({TEXT: RAW})


def _check_keys(batch: pl.DataFrame, wanted: Wanted, file: SourceFile) -> None:
    """Refuse a mapping that names keys which no object has; a key that is always null is one."""
    sample = batch.filter(~pl.col(UNPARSABLE_JSON))[TEXT].head(NUM_OBJECTS).to_list()
    keys = list(dict.fromkeys(key for text in sample for key in json.loads(text)))
    absent = {
        role: column
        for role, column in wanted.columns.items()
        if column not in keys and batch[role].null_count() == batch.height
    }
    if absent:
        positions(keys, Wanted(columns=absent), file.name)


def _keys(source: Source, file: SourceFile) -> list[str]:
    keys: dict[str, None] = {}
    with file.open() as stream:
        for lines, _ in read_lines(stream, source.encoding):
            for line in lines[TEXT].head(NUM_OBJECTS).to_list():
                with contextlib.suppress(ValueError):  # a broken row is the contracts' affair
                    found = json.loads(line)
                    keys.update(dict.fromkeys(found if isinstance(found, dict) else ()))
            break
    return list(keys)


FORMAT = LogFormat(read=_read, column_names=_keys, endings=(".jsonl", ".ndjson", ".json"))
