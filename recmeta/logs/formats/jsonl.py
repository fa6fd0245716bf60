"""JSON lines: an object a line."""

import contextlib
import json
from collections.abc import Iterator

import numpy as np
import polars as pl

from recmeta import strict_json
from recmeta.logs.mapping import Source
from recmeta.logs.reading.lines import TEXT, read_lines
from recmeta.logs.reading.log_format import (
    REPEATED_KEY,
    UNPARSABLE_JSON,
    LogFormat,
    SourceFile,
    Wanted,
    positions,
)
from recmeta.logs.reading.text_files import opened
from recmeta.schema import RAW

NUM_OBJECTS = 1000
"""Objects whose keys are looked at."""
_KEY = r'"(?:[^"\\]|\\.)*"\s*:'
_ESCAPED_KEY = r'\\(?:[^"\\]|\\.)*"\s*:'


def _read(source: Source, file: SourceFile, wanted: Wanted) -> Iterator[pl.DataFrame]:
    text = pl.col(TEXT)
    once = ~pl.col(REPEATED_KEY)
    fields = [
        pl.when(once).then(text.str.json_path_match(f"$[{json.dumps(column)}]")).alias(role)
        for role, column in wanted.columns.items()
    ]
    is_object = text.str.strip_chars().str.starts_with("{")
    parses = text.str.json_path_match("$").is_not_null()
    unseen = set(wanted.columns)
    with opened(source, file) as (stream, encoding):
        for lines, _ in read_lines(stream, encoding):
            rows = lines.filter(text.str.strip_chars() != "")
            rows = rows.with_columns((~(is_object & parses)).alias(UNPARSABLE_JSON))
            batch = rows.with_columns(_repeats_a_key(rows)).with_columns(*fields)
            if len(unseen) == len(wanted.columns) and batch.height:
                unseen = {role for role in unseen if batch[role].null_count() == batch.height}
                whole = batch.filter(~pl.col(UNPARSABLE_JSON) & ~pl.col(REPEATED_KEY))
                if unseen and whole.height:
                    _check_keys(whole, wanted, file)
            yield batch.rename({TEXT: RAW})


def _repeats_a_key(rows: pl.DataFrame) -> pl.Series:
    """Return of which objects, or objects in them, a key stands twice."""
    keys = pl.col(TEXT).str.extract_all(_KEY)
    # Few lines have text that may be the same key twice: the others are not parsed one by one.
    may = (keys.list.n_unique() < keys.list.len()) | pl.col(TEXT).str.contains(_ESCAPED_KEY)
    suspect = rows.select(may & ~pl.col(UNPARSABLE_JSON)).to_series()
    repeated = np.zeros(rows.height, dtype=bool)
    for place in suspect.arg_true().to_list():
        try:
            strict_json.loads(rows[TEXT][place])
        except strict_json.RepeatedKeyError:
            repeated[place] = True
        except ValueError:  # not as strict as Polars is; what it says of the line stands
            continue
    return pl.Series(REPEATED_KEY, repeated)


def _check_keys(batch: pl.DataFrame, wanted: Wanted, file: SourceFile) -> None:
    """Refuse a mapping that names keys which no object has; a key that is always null is one."""
    sample = batch[TEXT].head(NUM_OBJECTS).to_list()
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
    with opened(source, file) as (stream, encoding):
        for lines, _ in read_lines(stream, encoding):
            for line in lines[TEXT].head(NUM_OBJECTS).to_list():
                with contextlib.suppress(ValueError):  # a broken row is the contracts' affair
                    found = strict_json.loads(line)
                    keys.update(dict.fromkeys(found if isinstance(found, dict) else ()))
            break
    return list(keys)


FORMAT = LogFormat(read=_read, column_names=_keys, endings=(".jsonl", ".ndjson", ".json"))
