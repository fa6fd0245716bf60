"""A data set that can be downloaded, as the Parquet tables that the protocols read.

It comes the way of `recmeta data fetch`, verified, into the same cache, and its tables beside it.
Of the built-in data sets only MovieLens 100K can be had so: the protocols on MovieLens 1M read the
states and the films' attributes that MeLU's authors added to it, those on Book-Crossing the part of
it that was sampled evenly.
"""

import dataclasses
import tempfile
from pathlib import Path

import polars as pl

from recmeta.logs.checking.attributes import read_attributes
from recmeta.logs.fetching.datasets import default_cache, fetch, mapping_for
from recmeta.logs.fetching.download import move_into_place
from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.logs.reading.files import find_files
from recmeta.logs.reading.log_format import Wanted
from recmeta.logs.reading.sources import read
from recmeta.schema import ITEM_ID, USER_ID

NAMES = ("ml-100k",)
_TIME, _RATING = "timestamp", "rating"


def tables(name: str, cache: Path | None = None) -> Path:
    """Return the folder with a data set's tables, fetching and converting it where that was not
    done before.

    Args:
        name: one of NAMES.
        cache: the cache, or None for that of `recmeta data fetch`.

    Raises:
        UserError: if no source can be reached. The message says what to do instead.
    """
    cache = cache or default_cache()
    target = cache / "benchmarks" / name
    if target.exists():  # it was renamed when it was complete
        return target
    mapping = mapping_for(name, fetch(name, cache))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as temporary:
        folder = Path(temporary) / name
        folder.mkdir()
        _ratings(mapping).write_parquet(folder / "interactions.parquet")
        assert mapping.users is not None
        assert mapping.items is not None
        _users(mapping.users).write_parquet(folder / "users.parquet")
        _attributes(mapping.items, ITEM_ID).write_parquet(folder / "items.parquet")
        move_into_place(folder, target)
    return target


def _ratings(mapping: LogMapping) -> pl.DataFrame:
    """Return `user_id`, `item_id`, `rating` and `timestamp`, by user, time and item."""
    wanted = {
        USER_ID: mapping.user_col,
        ITEM_ID: mapping.item_col,
        _RATING: str(mapping.value_col),
        _TIME: str(mapping.time_col),
    }
    rows = pl.concat(
        batch.select(pl.col(name).cast(pl.Float64).cast(pl.Int64) for name in wanted)
        for batch in read(mapping, find_files(mapping), Wanted(columns=wanted))
    )
    return rows.sort(USER_ID, _TIME, ITEM_ID)


def _users(source: AttributeSource) -> pl.DataFrame:
    """Return the users with their whole postcode, whose first character may be a letter."""
    columns = {name: a for name, a in source.columns.items() if name != "zip_area"}
    columns["zip_code"] = Attribute(kind="categorical", column=source.columns["zip_area"].column)
    return _attributes(dataclasses.replace(source, columns=columns), USER_ID)


def _attributes(source: AttributeSource, key: str) -> pl.DataFrame:
    found, unreadable = read_attributes(source, find_files(source), key)
    assert unreadable.is_empty(), "the files were verified"
    return found.select(pl.col(key).cast(pl.Int64), *source.columns).sort(key)
