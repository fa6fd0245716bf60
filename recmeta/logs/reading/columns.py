"""The columns of a file and the apparent kind of each, for users who write no mapping."""

import lzma
import re
import zipfile
import zlib

import polars as pl

from recmeta.errors import UserError, did_you_mean, listed
from recmeta.logs.checking import parsing
from recmeta.logs.formats import FORMATS
from recmeta.logs.mapping import NULL_VALUES, Attribute, AttributeSource, Kind, Source
from recmeta.logs.reading.files import find_files
from recmeta.logs.reading.log_format import LogFormat, Wanted
from recmeta.logs.reading.sources import read
from recmeta.schema import ITEM_ID, TITLE, USER_ID, VALID_FROM

SEPARATOR = "|"
DISTINCT_SHARE = 0.9
DISTINCT_FROM = 20
"""A column with at least this many values, of which at least this share is distinct, is a text."""
NAMES_OF_TITLES = ("title", "name")
NAMES_OF_TEXTS = (*NAMES_OF_TITLES, "description", "text", "url", "link")


def column_names(source: Source) -> list[str]:
    """Return the columns of the first file of a source.

    Raises:
        UserError: if nothing is there or the file cannot be read.
    """
    file = find_files(source)[0]
    try:
        how: LogFormat = FORMATS[file.format]
        names = how.column_names(source, file)
        return [*names, *(name for name in file.partitions if name not in names)]
    except (
        OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, lzma.LZMAError
    ) as error:  # fmt: skip
        if isinstance(error, UserError):
            raise
        raise UserError(f"cannot read {file.name!r} as {file.format}: {error}") from error


def paths_within(source: Source) -> list[str]:
    """Return the paths of the values within the structures of a file, without structures.

    Raises:
        UserError: as `column_names`.
    """
    names = column_names(source)
    file = find_files(source)[0]
    how: LogFormat = FORMATS[file.format]
    if how.paths is None:
        return []
    paths = how.paths(source, file)
    return [p for p in paths if p not in names and not any(q.startswith(f"{p}.") for q in paths)]


def guess_attributes(source: Source, id_col: str) -> AttributeSource:
    """Return how to read a file of users or items whose columns are all attributes.

    A column is, by its name and its values in the first rows:

        text         if it is named title, name, description, text, url or link (`title` is what
                     reports call an item, and `name` serves where there is none), or nearly all
                     its values differ
        multi        if it holds lists, or `|` between values
        text         if it holds structures, or lists of them, which are spelled as JSON
        numeric      if every value is a number and none begins with a zero that a code has
        categorical  otherwise

    Raises:
        UserError: if the column of ids is missing, or there is no other column.
    """
    names = column_names(source)
    if id_col not in names:
        raise UserError(
            f"{source.path!r} has no column {id_col!r}.{did_you_mean(id_col, names)} "
            f"It has: {listed(names)}."
        )
    others = [name for name in names if name != id_col]
    if not others:
        raise UserError(f"{source.path!r} has no column beside {id_col!r}: it has no attributes.")
    sample = sample_of(source, others)
    fields = {name: getattr(source, name) for name in Source.__dataclass_fields__}
    return AttributeSource(**fields, id_col=id_col, columns=attributes_of(sample))


def sample_of(source: Source, names: list[str]) -> pl.DataFrame:
    """Return the first block of a source's rows; `names` are the columns."""
    # Columns may have the names of a batch's own columns, such as `file`.
    roles = {f"column:{name}": name for name in names}
    batch = next(iter(read(source, find_files(source), Wanted(columns=roles))), None)
    if batch is None:
        return pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    return batch.select(list(roles)).rename(roles)


def attributes_of(sample: pl.DataFrame) -> dict[str, Attribute]:
    """Return how to read the columns of a frame, by the names that they get as attributes; see
    `guess_attributes`."""
    columns = {}
    for column in sample.columns:
        kind = guess_kind(column, sample[column])
        attribute = re.sub(r"^(?=\d)|\W", "_", column)
        if attribute.lower() in NAMES_OF_TITLES and TITLE not in sample.columns:
            attribute = TITLE
        if attribute in (USER_ID, ITEM_ID, VALID_FROM):
            attribute += "_"
        columns[attribute] = Attribute(kind=kind, column=column, separator=SEPARATOR)
    return columns


def guess_kind(name: str, values: pl.Series) -> Kind:
    """Return the apparent kind of an attribute; see `guess_attributes`."""
    if isinstance(values.dtype, pl.List | pl.Array) and not values.dtype.inner.is_nested():
        return "multi"
    if values.dtype.is_nested():
        return "text"  # as JSON
    if values.dtype.is_numeric():
        return "numeric"
    text = values.to_frame(name).select(parsing.text(name, values.dtype, NULL_VALUES)).to_series()
    text = text.drop_nulls()
    if name.lower() in NAMES_OF_TEXTS:
        return "text"
    if text.str.contains(SEPARATOR, literal=True).any() or _are_json_lists(text):
        return "multi"
    number = text.cast(pl.Float64, strict=False)
    if len(text) and number.is_not_null().all() and not text.str.contains(r"^0\d").any():
        return "numeric"
    if len(text) >= DISTINCT_FROM and text.n_unique() >= DISTINCT_SHARE * len(text):
        return "text"
    return "categorical"


def _are_json_lists(text: pl.Series) -> bool:
    return bool(len(text) and text.str.contains(r"^\[.*\]$").all())
