"""The four states of MovieLens 1M in the files that MeLU's authors publish (Lee et al., KDD 2019).

    STATE.json            {"user id": ["item id", ...]}   for each of the four states
    STATE_y.json          {"user id": [rating, ...]}      in the same order
    users.dat             user::gender::age code::occupation code::zip code
    movies_extrainfos.dat item::title::year::rate::released::genre::director::writer::actors::plot
                          ::poster

They are in `movielens/ml-1m` of the authors' repository (hoyeoplee/MeLU on GitHub). No times are
among them, which the protocol of the four states has no use for.
"""

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.accuracy.datasets import MELU_STATES, SOURCES, TABLES
from benchmarks.accuracy.log import Log, number
from recmeta.errors import UserError

USERS, ITEMS = "users.dat", "movies_extrainfos.dat"
USER_FIELDS = ("user_id", "gender", "age", "occupation", "zip_code")
ITEM_FIELDS = (
    *("item_id", "title", "year", "rate", "released", "genres", "directors", "writers"),
    *("actors", "plot", "poster"),
)
LOWEST, HIGHEST = 1, 5
UNKNOWN = ("nan", "N/A", "")
"""What stands in the files where nothing is known."""
FILES = tuple(f"{state}{part}.json" for state in MELU_STATES for part in ("", "_y"))


def are_in(folder: Path) -> bool:
    """Return whether a folder has files of the states, and not the data set as one table."""
    has_table = (folder / TABLES[0]).exists()
    return not has_table and any((folder / name).exists() for name in FILES)


def read(folder: Path, counts: dict[str, int] | None = None) -> Log:
    """Return the log with a state for each row.

    Args:
        folder: holds the files.
        counts: the required rows, users, items and rows by state, or None for those documented.

    Raises:
        UserError: where a file is absent or not as it must be, or the counts are others.
    """
    missing = [name for name in (*FILES, USERS, ITEMS) if not (folder / name).exists()]
    if missing:
        raise UserError(
            f"{str(folder)!r} lacks {', '.join(missing)} of MeLU's files: copy the folder "
            "movielens/ml-1m of the repository hoyeoplee/MeLU whole."
        )
    rows = pl.concat([_state(folder, state) for state in MELU_STATES])
    users = _table(folder / USERS, USER_FIELDS)
    items = _table(folder / ITEMS, ITEM_FIELDS)
    _check(rows, users, items)
    found = {
        "rows_in_file": len(rows),
        "rows": len(rows),
        "users": rows["user_id"].n_unique(),
        "items": rows["item_id"].n_unique(),
        **{f"rows_{state}": n for state, n in sorted(rows.group_by("state").len().rows())},
    }
    expected = counts or SOURCES["ml-1m"].counts
    if found != expected:
        raise UserError(
            f"the files in {str(folder)!r} are not those that MeLU's authors published: they have "
            f"{found}, documented are {expected}. Get them again."
        )
    about = {
        "name": "ml-1m",
        "sha256": _fingerprint(folder),
        "verified": found,
        "cite": SOURCES["ml-1m"].cite,
    }
    return number(rows, _users(users), _items(items), about)


def _state(folder: Path, state: str) -> pl.DataFrame:
    """Return the rows of one state, sorted by user, each user's in the order of the file."""
    items, ratings = _lists(folder / f"{state}.json"), _lists(folder / f"{state}_y.json")
    if items.keys() != ratings.keys():
        odd = sorted(items.keys() ^ ratings.keys())
        raise UserError(
            f"{len(odd)} users of {state}.json and {state}_y.json are in one of them only, such as "
            f"{odd[0]!r} in {str(folder)!r}: get both files again."
        )
    for user, its in items.items():
        if len(its) != len(ratings[user]):
            raise UserError(
                f"user {user!r} has {len(its)} items in {state}.json and {len(ratings[user])} "
                f"ratings in {state}_y.json in {str(folder)!r}: get both files again."
            )
    lengths = [len(its) for its in items.values()]
    values = [ratings[user] for user in items]
    try:
        value = pl.Series("value", list(itertools.chain.from_iterable(values)), pl.Float64)
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{state}_y.json has a rating that is no number: {error}") from error
    wrong = value.filter(~value.is_between(LOWEST, HIGHEST) | value.is_nan())
    if len(wrong):
        raise UserError(
            f"{len(wrong)} ratings in {state}_y.json are not from {LOWEST} to {HIGHEST}, such as "
            f"{wrong[0]:g}: get the file again."
        )
    rated = itertools.chain.from_iterable(items.values())
    return pl.DataFrame(
        {
            "user_id": np.repeat(np.array(list(items), np.str_), lengths),
            "item_id": pl.Series([str(item) for item in rated], dtype=pl.String),
            "value": value,
        }
    ).with_columns(pl.lit(MELU_STATES[state]).alias("state"))


def _lists(path: Path) -> dict[str, list[Any]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{str(path)!r} is not valid JSON: {error}. Get the file again.") from error
    if not isinstance(found, dict) or not all(isinstance(v, list) for v in found.values()):
        raise UserError(f"{str(path)!r} must be an object of lists, one per user.")
    return found


def _table(path: Path, names: tuple[str, ...]) -> pl.DataFrame:
    """Return a file whose fields stand between `::`, all as text."""
    # The authors' own files are UTF-8; MovieLens' are Latin-1.
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = pl.Series("line", text.rstrip("\n").split("\n"), pl.String).str.strip_chars_end("\r")
    fields = lines.str.split("::")
    odd = (fields.list.len() != len(names)).arg_true()
    if len(odd):
        raise UserError(
            f"line {odd[0] + 1} of {str(path)!r} has {fields.list.len()[odd[0]]} fields; "
            f"{len(names)} are expected: {'::'.join(names)}."
        )
    return fields.list.to_struct(fields=list(names)).struct.unnest()


def _check(rows: pl.DataFrame, users: pl.DataFrame, items: pl.DataFrame) -> None:
    """Raise a UserError where users or items lack attributes, or states overlap."""
    for key, table, name in (("user_id", users, USERS), ("item_id", items, ITEMS)):
        unknown = rows.join(table, on=key, how="anti")
        if len(unknown):
            raise UserError(
                f"{unknown[key].n_unique()} ids of the states are not in {name}, such as "
                f"{unknown[key][0]!r}: the files are of different versions."
            )
    for key, new in (("user_id", "user_cold"), ("item_id", "item_cold")):
        both = rows.filter(pl.col("state") == new).join(
            rows.filter(pl.col("state") == "warm"), on=key, how="semi"
        )
        if len(both):
            raise UserError(
                f"{both[key].n_unique()} ids are new in {new} and warm, too, such as "
                f"{both[key][0]!r}: the files are of different versions."
            )


def _users(users: pl.DataFrame) -> pl.DataFrame:
    return users.with_columns(pl.col("zip_code").str.slice(0, 3).alias("zip_area"))


def _items(items: pl.DataFrame) -> pl.DataFrame:
    """Return what MeLU reads of films; notes in brackets are no part of a director's name."""

    def names(column: str, bare: bool = False) -> pl.Expr:
        text = pl.col(column)
        values = (text.str.replace_all(r"\([^()]*\)", "") if bare else text).str.split(", ")
        stripped = values.list.eval(pl.element().str.strip_chars())
        return stripped.list.eval(pl.element().filter(~pl.element().is_in(UNKNOWN))).list.unique(
            maintain_order=True
        )

    return items.select(
        "item_id",
        pl.col("year").cast(pl.Float64, strict=False),
        pl.when(~pl.col("rate").is_in(UNKNOWN)).then("rate").alias("rate"),
        names("genres"),
        names("directors", bare=True),
        names("actors"),
    )


def _fingerprint(folder: Path) -> str:
    """Return the SHA-256 over the files' bytes, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted((*FILES, USERS, ITEMS)):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
