"""The data sets of the protocols, read from Parquet and verified against documented counts."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.accuracy.log import Log, number
from benchmarks.accuracy.places import ENVIRONMENT, folder_of
from recmeta.errors import UserError

TABLES = ("interactions.parquet", "users.parquet", "items.parquet")
MELU_STATES = {
    "warm_state": "warm",
    "user_cold_state": "user_cold",
    "item_cold_state": "item_cold",
    "user_and_item_cold_state": "user_and_item_cold",
}
"""The data set's name of a state to ours."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frames:
    """A data set in frames as `log.number` takes them."""

    file_rows: int
    """Rows of interactions.parquet, before the protocols leave any out."""
    rows: pl.DataFrame
    users: pl.DataFrame
    items: pl.DataFrame


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A data set and its documented counts."""

    read: Callable[[Path], Frames]
    counts: dict[str, int]
    """Rows of the file; rows, users and items that the protocols use, and rows by state where the
    data set has states. All are asserted."""
    cite: str
    """The paper to cite."""
    obtain: str
    """How to obtain it."""


def read(name: str, folder: Path | None = None) -> Log:
    """Return a data set, verified; see `frames`."""
    found, about = frames(name, folder)
    return number(found.rows, found.users, found.items, about)


def frames(name: str, folder: Path | None = None) -> tuple[Frames, dict[str, Any]]:
    """Return a data set in frames, verified, and its name, fingerprint and counts, JSON-ready.

    Args:
        name: a name in `SOURCES`.
        folder: the folder that holds a folder of that name, or None for that of `folder_of`.

    Raises:
        UserError: if the files are absent, or their counts are not the documented ones.
    """
    place, source = folder_of(name, folder), SOURCES[name]
    for table in TABLES:
        if not (place / table).exists():
            raise UserError(
                f"the data set {name} is not there: {str(place / table)!r} is missing. Give the "
                f"folder that holds {name}/{table} with --data, or in ${ENVIRONMENT}. "
                f"{source.obtain}"
            )
    found = source.read(place)
    counts = {
        "rows_in_file": found.file_rows,
        "rows": len(found.rows),
        "users": found.rows["user_id"].n_unique(),
        "items": found.rows["item_id"].n_unique(),
    }
    if "state" in found.rows.columns:
        by_state = found.rows.group_by("state").len().rows()
        counts |= {f"rows_{state}": num for state, num in sorted(by_state)}
    if counts != source.counts:
        raise UserError(
            f"the files in {str(place)!r} are not the data set {name} that the protocols are "
            f"defined on: they have {counts}, documented are {source.counts}. Get it again."
        )
    about = {"name": name, "sha256": _fingerprint(place), "verified": counts, "cite": source.cite}
    return found, about


def _fingerprint(folder: Path) -> str:
    """Return the SHA-256 over the tables' bytes, in the order of their names."""
    digest = hashlib.sha256()
    for table in sorted(TABLES):
        with (folder / table).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _ids(frame: pl.DataFrame) -> pl.DataFrame:
    names = [n for n in ("user_id", "item_id") if n in frame.columns]
    return frame.with_columns(pl.col(names).cast(pl.String))


def _frames(folder: Path) -> list[pl.DataFrame]:
    return [_ids(pl.read_parquet(folder / table)) for table in TABLES]


def _movielens_1m(folder: Path) -> Frames:
    """Read MovieLens 1M with the attributes that MeLU reads, in the users' exact order."""
    rows, users, items = _frames(folder)
    by_order = rows.sort("user_id", "order")
    return Frames(
        file_rows=len(rows),
        rows=by_order.select(
            "user_id",
            "item_id",
            pl.col("rating").alias("value"),
            # The order is exact even where a time is unknown, so the user's next known one stands
            # in. Who has none at all rated early, as the data set's documentation says.
            pl.col("timestamp")
            .backward_fill()
            .forward_fill()
            .over("user_id")
            .fill_null(pl.col("timestamp").min())
            .alias("time"),
            pl.col("state").cast(pl.String).replace_strict(MELU_STATES),
        ),
        users=users.select(
            "user_id",
            "gender",
            pl.col("age_range").alias("age"),
            "occupation",
            "zip_code",
            pl.col("zip_code").str.slice(0, 3).alias("zip_area"),
        ),
        items=items.select(
            "item_id",
            pl.col("year").cast(pl.Float64),
            pl.col("x_rate").alias("rate"),
            pl.col("x_genres").alias("genres"),
            pl.col("x_directors").alias("directors"),
            pl.col("x_actors").alias("actors"),
        ),
    )


def _movielens_100k(folder: Path) -> Frames:
    rows, users, items = _frames(folder)
    ordered = rows.sort("user_id", "timestamp", maintain_order=True)
    return Frames(
        file_rows=len(rows),
        rows=ordered.select(
            "user_id", "item_id", pl.col("rating").alias("value"), pl.col("timestamp").alias("time")
        ),
        users=users.select(
            "user_id",
            pl.col("age").cast(pl.Float64),
            "gender",
            "occupation",
            pl.col("zip_code").str.slice(0, 1).alias("zip_area"),
        ),
        items=items.select(
            "item_id", pl.col("release_year").cast(pl.Float64).alias("year"), "genres"
        ),
    )


def _book_crossing(folder: Path) -> Frames:
    """Read the core part: the only one that was sampled evenly. Ages beyond 5 to 100 are unknown,
    as are years before 1900 or after 2004."""
    rows, users, items = _frames(folder)
    core = rows.filter("core").sort("user_id", "item_id")
    age, year = pl.col("age").cast(pl.Float64), pl.col("year").cast(pl.Float64)
    return Frames(
        file_rows=len(rows),
        rows=core.select("user_id", "item_id", pl.col("rating").alias("value")),
        users=users.select(
            "user_id",
            pl.when(age.is_between(5, 100)).then(age).alias("age"),
            "country",
            pl.col("state").alias("region"),
        ),
        items=items.join(core.select("item_id").unique(), on="item_id", how="semi").select(
            "item_id",
            pl.when(year.is_between(1900, 2004)).then(year).alias("year"),
            "author",
            "publisher",
        ),
    )


def _online_retail(folder: Path) -> Frames:
    """Read the purchases without returns, postage and other codes. An invoice is a basket."""
    rows, users, items = _frames(folder)
    products = items.filter("is_product")
    bought = rows.filter(pl.col("quantity") > 0).join(products, on="item_id", how="semi")
    bought = bought.sort("user_id", "timestamp", "invoice", "item_id")
    return Frames(
        file_rows=len(rows),
        rows=bought.select(
            "user_id",
            "item_id",
            pl.lit(1.0).alias("value"),
            pl.col("timestamp").alias("time"),
            pl.col("invoice").rank("dense").cast(pl.Int64).alias("basket"),
        ),
        users=users.select("user_id", "country"),
        items=products.select(
            "item_id",
            pl.col("median_unit_price").cast(pl.Float64).alias("price"),
            pl.col("description").str.to_lowercase().str.extract_all(r"[a-z]{3,}").alias("words"),
        ),
    )


def _lastfm(folder: Path) -> Frames:
    """Read which users listened to which artists. Tags are left out, because the listeners gave
    them."""
    rows, users, items = _frames(folder)
    listened = rows.sort("user_id", "item_id")
    return Frames(
        file_rows=len(rows),
        rows=listened.select("user_id", "item_id", pl.lit(1.0).alias("value")),
        users=users.select("user_id"),
        items=items.select("item_id"),
    )


SOURCES = {
    "ml-1m": Source(
        read=_movielens_1m,
        counts={
            "rows_in_file": 1_000_209,
            "rows": 1_000_209,
            "users": 6_040,
            "items": 3_704,
            "rows_item_cold": 157_456,
            "rows_user_and_item_cold": 38_603,
            "rows_user_cold": 163_702,
            "rows_warm": 640_448,
        },
        cite="Harper and Konstan, ACM TiiS 5(4):19, 2015; states: Lee et al., KDD 2019",
        obtain="For melu-ml1m copy the folder movielens/ml-1m of the repository hoyeoplee/MeLU on "
        "GitHub there, as it is. For temporal-ml1m the ratings of grouplens.org/datasets/"
        "movielens/1m, which alone have times, are to be joined with its films' attributes.",
    ),
    "ml-100k": Source(
        read=_movielens_100k,
        counts={"rows_in_file": 100_000, "rows": 100_000, "users": 943, "items": 1_682},
        cite="Harper and Konstan, ACM TiiS 5(4):19, 2015",
        obtain="Without --data, and where that variable names no folder with it, it is fetched.",
    ),
    "book-crossing": Source(
        read=_book_crossing,
        counts={"rows_in_file": 255_662, "rows": 230_936, "users": 51_759, "items": 27_109},
        cite="Ziegler et al., WWW 2005",
        obtain="The core are the 230,936 ratings of BX-Ratings.csv and BX-NewBooksRatings.csv in "
        "the repository springtiming/ML-Models-for-Book-Rating-Prediction on GitHub; the whole "
        "data set, which `recmeta data fetch book-crossing` gets, is another one.",
    ),
    "online-retail": Source(
        read=_online_retail,
        counts={"rows_in_file": 406_829, "rows": 396_370, "users": 4_335, "items": 3_659},
        cite="Chen, Sain and Guo, J. Database Marketing 19(3), 2012",
        obtain="It is data set 352 of the UCI Machine Learning Repository: "
        "archive.ics.uci.edu/dataset/352/online+retail.",
    ),
    "lastfm-hetrec": Source(
        read=_lastfm,
        counts={"rows_in_file": 92_834, "rows": 92_834, "users": 1_892, "items": 17_632},
        cite="Cantador, Brusilovsky and Kuflik, HetRec at RecSys 2011",
        obtain="It is at grouplens.org/datasets/hetrec-2011.",
    ),
}
