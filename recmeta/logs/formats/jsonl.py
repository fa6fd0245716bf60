"""JSON: an object on each line, or one document that holds the objects.

A column is a key, or a path of keys: `properties.product_id` is `product_id` of the object under
`properties`, and where that is a list of objects, the list of theirs.
"""

import contextlib
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from recmeta import strict_json
from recmeta.errors import UserError
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
"""The number of objects whose keys are read."""
HEAD_BYTES = 1024 * 1024
"""Bytes that show whether a file is one document."""
MAX_DOCUMENT_BYTES = 1024**3
"""The most bytes of a file that is one document, all of which is held in memory."""
MAX_DEPTH = 5
"""The most keys of a path."""
_KEY = r'"(?:[^"\\]|\\.)*"\s*:'
_ESCAPED_KEY = r'\\(?:[^"\\]|\\.)*"\s*:'
_ROUNDED = r"^-?\d+\.?\d*[eE]"
"""Polars' spelling of a number that it could not hold as an integer."""


def _read(source: Source, file: SourceFile, wanted: Wanted) -> Iterator[pl.DataFrame]:
    text = pl.col(TEXT)
    is_object = text.str.strip_chars().str.starts_with("{")
    parses = text.str.json_path_match("$").is_not_null()
    unseen = set(wanted.columns)
    fields: dict[str, Field] = {}
    for lines in _blocks(source, file, set(wanted.columns.values())):
        rows = lines.filter(text.str.strip_chars() != "")
        rows = rows.with_columns((~(is_object & parses)).alias(UNPARSABLE_JSON))
        rows = rows.with_columns(_repeats_a_key(rows))
        if not fields and rows.height:
            sample = _sample(rows)
            fields = {role: Field.of(column, sample) for role, column in wanted.columns.items()}
        batch = rows.with_columns(
            *(
                (fields[role] if fields else Field((column,), None)).values(rows).alias(role)
                for role, column in wanted.columns.items()
            )
        )
        if len(unseen) == len(wanted.columns) and batch.height:
            unseen = {role for role in unseen if batch[role].null_count() == batch.height}
            whole = batch.filter(~pl.col(UNPARSABLE_JSON) & ~pl.col(REPEATED_KEY))
            if unseen and whole.height:
                _check_keys(whole, wanted, file)
        yield batch.rename({TEXT: RAW})


class Field:
    """The place of a column in objects."""

    def __init__(self, keys: tuple[str, ...], within: tuple[str, ...] | None) -> None:
        """
        Args:
            keys: the path to it, or to the list that holds it.
            within: the path to it in each object of that list; None if it is not in a list.
        """
        self.keys = keys
        self.within = within

    @classmethod
    def of(cls, column: str, sample: list[dict[str, Any]]) -> "Field":
        """Return the place of a column, as the first objects show it."""
        if "." not in column or any(column in found for found in sample):
            return cls((column,), None)
        parts = tuple(column.split("."))
        for depth in range(1, len(parts)):
            for found in sample:
                value = _at(found, parts[:depth])
                if isinstance(value, list) and value and isinstance(value[0], dict):
                    return cls(parts[:depth], parts[depth:])
        return cls(parts, None)

    def values(self, rows: pl.DataFrame) -> pl.Series:
        """Return the text of the column in each line, or the list of texts; null if it is absent,
        or the line is broken."""
        path = "$" + "".join(f"[{json.dumps(key)}]" for key in self.keys)
        found = rows.select(
            pl.when(~pl.col(REPEATED_KEY)).then(pl.col(TEXT).str.json_path_match(path)).alias("v")
        ).to_series()
        if self.within is None:
            return self._exactly(found, rows[TEXT])
        try:
            return self._listed(found)
        except pl.exceptions.PolarsError as error:
            column = ".".join((*self.keys, *self.within))
            reason = str(error).partition("\n")[0]
            raise UserError(f"cannot read {column!r} in lists of objects: {reason}") from error

    def _listed(self, found: pl.Series) -> pl.Series:
        assert self.within is not None
        inner: Any = pl.String()
        for key in reversed(self.within):
            inner = pl.Struct({key: inner})
        value = pl.element()
        for key in self.within:
            value = value.struct.field(key)
        is_list = found.str.starts_with("[")
        return (
            found.zip_with(is_list.fill_null(False), pl.Series([None], dtype=pl.String))
            .str.json_decode(pl.List(inner))
            .list.eval(value)
        )

    def _exactly(self, found: pl.Series, text: pl.Series) -> pl.Series:
        """Return the values with integers that are longer than 64 bits as they are written."""
        rounded = found.str.contains(_ROUNDED).fill_null(False)
        if not rounded.any():
            return found
        places = rounded.arg_true()
        exact = []
        for line, value in zip(text.gather(places), found.gather(places), strict=True):
            written: Any = value
            with contextlib.suppress(ValueError):
                number = _at(json.loads(line, parse_float=str), self.keys)
                written = str(number) if isinstance(number, int | str) else value
            exact.append(written)
        return found.scatter(places, pl.Series(exact, dtype=pl.String))


def _at(found: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _sample(rows: pl.DataFrame) -> list[dict[str, Any]]:
    found = []
    for line in rows[TEXT].head(NUM_OBJECTS).to_list():
        with contextlib.suppress(
            ValueError, RecursionError
        ):  # a broken row is the contracts' affair
            found.append(strict_json.loads(line))
    return [value for value in found if isinstance(value, dict)]


def _blocks(source: Source, file: SourceFile, wanted: set[str]) -> Iterator[pl.DataFrame]:
    """Yield lines with an object each, whatever the layout of the file.

    Args:
        wanted: the columns that objects should have; empty if any will do.
    """
    with opened(source, file) as (stream, encoding):
        if _may_be_document(stream.peek(HEAD_BYTES), encoding):
            content = stream.read(MAX_DOCUMENT_BYTES)
            while more := stream.read(MAX_DOCUMENT_BYTES):
                content += more
                if len(content) > MAX_DOCUMENT_BYTES:
                    raise UserError(
                        f"{file.name!r} is one JSON document of over {MAX_DOCUMENT_BYTES:,} bytes: "
                        "write one object per line, for example with jq -c '.[]'."
                    )
            found = _records(content, encoding, wanted)
            if found is None:
                stream = io.BytesIO(content)
            else:
                written = "\n".join(json.dumps(one, ensure_ascii=False) for one in found)
                stream, encoding = io.BytesIO(written.encode("utf-8", "surrogatepass")), "utf-8"
        for lines, _ in read_lines(stream, encoding):
            yield lines


def _may_be_document(head: bytes, encoding: str) -> bool:
    """Whether a file may be one document: its first line is not a complete object, or is its only
    line."""
    text = head.decode(encoding, "replace").lstrip("\ufeff \t\r\n")
    first, _, rest = text.partition("\n")
    if first.startswith("["):
        return True
    if not first.startswith("{") or rest.strip():
        return first.strip() == "{"
    return True


def _records(content: bytes, encoding: str, wanted: set[str]) -> list[Any] | None:
    """Return the objects in a document; None if it holds none, or is not a document."""
    try:
        document = json.loads(content.decode(encoding).lstrip("\ufeff"))
    except (ValueError, RecursionError):
        return None
    if isinstance(document, list):
        return document if all(isinstance(one, dict) for one in document) else None
    if not isinstance(document, dict):
        return None
    if any(name.split(".")[0] in document for name in wanted):
        return _by_column(document)
    lists = [v for v in document.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
    return lists[0] if len(lists) == 1 else _by_column(document)


def _by_column(document: dict[str, Any]) -> list[Any] | None:
    """Return the rows of a frame that was written column by column."""
    columns = list(document.values())
    if len(columns) < 2 or not all(isinstance(c, dict) for c in columns):
        return None
    if any(column.keys() != columns[0].keys() for column in columns) or not columns[0]:
        return None
    return [{name: document[name][row] for name in document} for row in columns[0]]


def _repeats_a_key(rows: pl.DataFrame) -> pl.Series:
    """Return which objects, or objects in them, have a repeated key."""
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
    """Refuse a mapping that names keys which no object has; a key that is always null does
    exist."""
    keys = _paths(_sample(batch))
    absent = {
        role: column
        for role, column in wanted.columns.items()
        if column not in keys and batch[role].null_count() == batch.height
    }
    if absent:
        positions(keys, Wanted(columns=absent), file.name)


def _paths(sample: list[dict[str, Any]]) -> list[str]:
    """Return the keys of objects, then those within them as paths."""
    keys: dict[str, None] = dict.fromkeys(key for found in sample for key in found)
    waiting: list[tuple[str, Any, int]] = [
        (key, value, 1) for found in sample[:MAX_LOOKED_INTO] for key, value in found.items()
    ]
    for path, value, depth in waiting:  # grows as it is read
        inner = value[0] if isinstance(value, list) and value else value
        if isinstance(inner, dict) and depth < MAX_DEPTH:
            for key, within in inner.items():
                keys[f"{path}.{key}"] = None
                waiting.append((f"{path}.{key}", within, depth + 1))
    return list(keys)


MAX_LOOKED_INTO = 50
"""The number of objects whose inner keys are read."""


def _keys(source: Source, file: SourceFile) -> list[str]:
    return list(dict.fromkeys(key for found in _first(source, file) for key in found))


def _key_paths(source: Source, file: SourceFile) -> list[str]:
    return _paths(_first(source, file))


def _first(source: Source, file: SourceFile) -> list[dict[str, Any]]:
    for lines in _blocks(source, file, set()):
        return _sample(lines.filter(pl.col(TEXT).str.strip_chars() != ""))
    return []


FORMAT = LogFormat(
    read=_read, column_names=_keys, paths=_key_paths, endings=(".jsonl", ".ndjson", ".json")
)
