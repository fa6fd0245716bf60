"""How the files of the built-in data sets are read, as ordinary mappings."""

from pathlib import Path

from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping

_GENRES_100K = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
_TITLE = Attribute(kind="text", pattern=r"^(.*?)\s*(?:\(\d{4}\))?$")
_ZIP_AREA = Attribute(kind="categorical", column="zip_code", pattern=r"^(\d)")


def ml_100k(folder: Path) -> LogMapping:
    """MovieLens 100K as GroupLens publishes it."""
    return LogMapping(
        path=str(folder / "u.data"),
        format="tsv",
        quote="",
        column_names=("user_id", "item_id", "rating", "timestamp"),
        time_col="timestamp",
        value_col="rating",
        scale="1:5",
        users=AttributeSource(
            path=str(folder / "u.user"),
            format="csv",
            separator="|",
            quote="",
            column_names=("user_id", "age", "gender", "occupation", "zip_code"),
            id_col="user_id",
            columns={
                "age": Attribute(kind="numeric"),
                "gender": Attribute(kind="categorical"),
                "occupation": Attribute(kind="categorical"),
                "zip_area": _ZIP_AREA,
            },
        ),
        items=AttributeSource(
            path=str(folder / "u.item"),
            format="csv",
            separator="|",
            quote="",
            encoding="latin-1",
            column_names=("item_id", "title", "released", "video_released", "url", *_GENRES_100K),
            id_col="item_id",
            columns={
                "title": _TITLE,
                "release_year": Attribute(
                    kind="numeric", column="title", pattern=r"\((\d{4})\)\s*$"
                ),
                "genres": Attribute(kind="multi", flags={genre: genre for genre in _GENRES_100K}),
            },
        ),
    )


def ml_100k_atomic(folder: Path) -> LogMapping:
    """MovieLens 100K in RecBole's atomic files, which give each column's kind after a colon."""
    return LogMapping(
        path=str(folder / "ml-100k.inter"),
        format="tsv",
        quote="",
        user_col="user_id:token",
        item_col="item_id:token",
        time_col="timestamp:float",
        value_col="rating:float",
        scale="1:5",
        users=AttributeSource(
            path=str(folder / "ml-100k.user"),
            format="tsv",
            quote="",
            id_col="user_id:token",
            columns={
                "age": Attribute(kind="numeric", column="age:token"),
                "gender": Attribute(kind="categorical", column="gender:token"),
                "occupation": Attribute(kind="categorical", column="occupation:token"),
                "zip_area": Attribute(
                    kind="categorical", column="zip_code:token", pattern=r"^(\d)"
                ),
            },
        ),
        items=AttributeSource(
            path=str(folder / "ml-100k.item"),
            format="tsv",
            quote="",
            id_col="item_id:token",
            columns={
                "title": Attribute(kind="text", column="movie_title:token_seq"),
                "release_year": Attribute(kind="numeric", column="release_year:token"),
                "genres": Attribute(kind="multi", column="class:token_seq", separator=" "),
            },
        ),
    )


def ml_1m(folder: Path) -> LogMapping:
    """MovieLens 1M. An age is the lowest year of a band, and is therefore also given as a
    category."""
    return LogMapping(
        path=str(folder / "ratings.dat"),
        format="csv",
        separator="::",
        column_names=("user_id", "item_id", "rating", "timestamp"),
        time_col="timestamp",
        value_col="rating",
        scale="1:5",
        users=AttributeSource(
            path=str(folder / "users.dat"),
            format="csv",
            separator="::",
            column_names=("user_id", "gender", "age", "occupation", "zip_code"),
            id_col="user_id",
            columns={
                "age": Attribute(kind="numeric"),
                "age_band": Attribute(kind="categorical", column="age"),
                "gender": Attribute(kind="categorical"),
                "occupation": Attribute(kind="categorical"),
                "zip_area": _ZIP_AREA,
            },
        ),
        items=AttributeSource(
            path=str(folder / "movies.dat"),
            format="csv",
            separator="::",
            encoding="latin-1",
            column_names=("item_id", "title", "genres"),
            id_col="item_id",
            columns={
                "title": _TITLE,
                "release_year": Attribute(
                    kind="numeric", column="title", pattern=r"\((\d{4})\)\s*$"
                ),
                "genres": Attribute(kind="multi"),
            },
        ),
    )


def book_crossing(folder: Path) -> LogMapping:
    """Book-Crossing. A rating of 0 says "read, not rated": it becomes a `view` event of value 1.

    No row is lost in this way, and for explicit ratings alone, use the event `rating`.
    """
    return LogMapping(
        path=str(folder / "BX-Book-Ratings.csv"),
        format="csv",
        separator=";",
        escape="\\",
        encoding="latin-1",
        user_col="User-ID",
        item_col="ISBN",
        value_col="Book-Rating",
        scale="1:10",
        implicit_value=0.0,
        users=AttributeSource(
            path=str(folder / "BX-Users.csv"),
            format="csv",
            separator=";",
            escape="\\",
            encoding="latin-1",
            id_col="User-ID",
            columns={
                "age": Attribute(kind="numeric", column="Age", scale="5:100"),
                "country": Attribute(
                    kind="categorical", column="Location", pattern=r"([^,\s][^,]*)$"
                ),
            },
        ),
        items=AttributeSource(
            path=str(folder / "BX-Books.csv"),
            format="csv",
            separator=";",
            escape="\\",
            encoding="latin-1",
            id_col="ISBN",
            columns={
                "title": Attribute(kind="text", column="Book-Title"),
                "author": Attribute(kind="categorical", column="Book-Author"),
                "release_year": Attribute(
                    kind="numeric", column="Year-Of-Publication", scale="1400:2010"
                ),
                "publisher": Attribute(kind="categorical", column="Publisher"),
            },
        ),
    )
