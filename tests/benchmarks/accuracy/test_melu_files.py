"""MeLU's own files give the log that the data set's table gives; faults in them are named."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from small_logs import shared_data

from benchmarks.accuracy import datasets, melu_files
from benchmarks.accuracy.log import Log
from recmeta.errors import UserError

FEW = 20  # one user of so many


@pytest.fixture(scope="module")
def shared() -> Path:
    """Return the folder of MovieLens 1M."""
    return shared_data() / "ml-1m"


def write_files(shared: Path, folder: Path, one_of: int) -> dict[str, int]:
    """Write the official layout out of the table's `state` column; return the counts."""
    rows = pl.read_parquet(shared / "interactions.parquet").filter(pl.col("user_id") % one_of == 0)
    rows = rows.with_columns(pl.col("state").cast(pl.String))
    for state in datasets.MELU_STATES:
        of_user = rows.filter(pl.col("state") == state).group_by("user_id", maintain_order=True)
        lists = of_user.agg(pl.col("item_id").cast(pl.String), pl.col("rating").cast(pl.Int64))
        users = lists["user_id"].cast(pl.String).to_list()
        for part, column in (("", "item_id"), ("_y", "rating")):
            by_user = dict(zip(users, lists[column].to_list(), strict=True))
            (folder / f"{state}{part}.json").write_text(json.dumps(by_user))
    users = pl.read_parquet(shared / "users.parquet")
    write_fields(
        folder / melu_files.USERS,
        users.select("user_id", "gender", "age_code", "occupation_code", "zip_code"),
    )
    films = pl.read_parquet(shared / "items.parquet")

    def joined(column: str) -> pl.Expr:
        return pl.col(column).list.join(", ").replace("", "nan").alias(column)

    write_fields(
        folder / melu_files.ITEMS,
        films.select(
            *("item_id", "title", "year", "x_rate", "x_released"),
            *(joined(f"x_{name}") for name in ("genres", "directors")),
            pl.lit("N/A").alias("writers"),
            joined("x_actors"),
            *(pl.lit("N/A").alias(name) for name in ("plot", "poster")),
        ),
    )
    states = rows.group_by("state").len().rows()
    return {
        "rows_in_file": len(rows),
        "rows": len(rows),
        "users": rows["user_id"].n_unique(),
        "items": rows["item_id"].n_unique(),
        **{f"rows_{datasets.MELU_STATES[state]}": n for state, n in states},
    }


def write_fields(path: Path, table: pl.DataFrame) -> None:
    text = table.select(pl.concat_str(pl.all().cast(pl.String).fill_null("nan"), separator="::"))
    path.write_text("\n".join(text.to_series().to_list()) + "\n", encoding="utf-8")


@pytest.fixture
def files(shared: Path, tmp_path: Path) -> tuple[Path, dict[str, int]]:
    return tmp_path, write_files(shared, tmp_path, FEW)


def rows_of(log: Log) -> pl.DataFrame:
    ids = pl.Series("item_id", log.items.item_id.to_pylist())
    users = pl.Series("user_id", log.profiles["user_id"].to_pylist())
    frame = pl.DataFrame(
        {
            "user_id": users.gather(log.user),
            "item_id": ids.gather(log.item),
            "value": log.value,
            "state": log.state.tolist(),
        }
    )
    return frame.sort("user_id", "item_id")


def test_the_files_give_the_log_of_the_table(
    shared: Path, files: tuple[Path, dict[str, int]]
) -> None:
    folder, counts = files
    log = melu_files.read(folder, counts)
    assert log.about["verified"] == counts
    expected = datasets.read("ml-1m", shared.parent)
    users = set(log.profiles["user_id"].to_pylist())
    wanted = rows_of(expected).filter(pl.col("user_id").is_in(list(users)))
    assert rows_of(log).equals(wanted)
    assert log.items.item_id.equals(expected.items.item_id)
    found = pl.from_arrow(log.items.attributes)
    other = pl.from_arrow(expected.items.attributes)
    for name in ("year", "rate", "genres", "actors"):
        assert found[name].equals(other[name]), name
    assert found["directors"].equals(other["directors"].list.unique(maintain_order=True))


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="slow: RECMETA_SLOW=1")
def test_all_files_have_the_documented_counts(shared: Path, tmp_path: Path) -> None:
    write_files(shared, tmp_path, 1)
    log = melu_files.read(tmp_path)
    assert rows_of(log).equals(rows_of(datasets.read("ml-1m", shared.parent)))


def test_other_counts_are_refused(files: tuple[Path, dict[str, int]]) -> None:
    with pytest.raises(UserError, match=r"documented are .*1000209"):
        melu_files.read(files[0])


def test_absent_files_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "warm_state.json").write_text("{}")
    assert melu_files.are_in(tmp_path)
    with pytest.raises(UserError, match=r"lacks warm_state_y\.json, .*users\.dat.*hoyeoplee/MeLU"):
        melu_files.read(tmp_path)


def test_a_table_is_read_in_place_of_files(tmp_path: Path) -> None:
    (tmp_path / "warm_state.json").write_text("{}")
    (tmp_path / "interactions.parquet").write_bytes(b"")
    assert not melu_files.are_in(tmp_path)


def changed(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Return what changes the lists of a file's first user."""

    def apply(folder: Path) -> None:
        lists = json.loads((folder / name).read_text())
        user = next(iter(lists))
        lists[user] = change(lists[user])
        (folder / name).write_text(json.dumps(lists))

    return apply


FAULTS = {
    r"items in user_cold_state\.json and 1 ratings": changed(
        "user_cold_state_y.json", lambda ratings: ratings[:1]
    ),
    "not from 1 to 5, such as 9": changed("warm_state_y.json", lambda r: [9, *r[1:]]),
    "has a rating that is no number": changed("warm_state_y.json", lambda r: ["good", *r[1:]]),
    "not in movies_extrainfos.dat, such as '99999'": changed(
        "item_cold_state.json", lambda items: ["99999", *items[1:]]
    ),
    "is not valid JSON": lambda folder: (folder / "warm_state.json").write_text("{"),
    "must be an object of lists": lambda folder: (folder / "warm_state.json").write_text("[1]"),
    r"line 1 of .*users\.dat' has 2 fields; 5 are expected": lambda folder: (
        folder / "users.dat"
    ).write_text("1::F\n"),
    "are in one of them only": lambda folder: (folder / "warm_state_y.json").write_text("{}"),
    "are new in user_cold and warm, too": lambda folder: [
        (folder / f"user_cold_state{part}.json").write_text(
            (folder / f"warm_state{part}.json").read_text()
        )
        for part in ("", "_y")
    ],
}


@pytest.mark.parametrize("message", FAULTS)
def test_faults_are_named(message: str, files: tuple[Path, dict[str, int]]) -> None:
    folder, counts = files
    FAULTS[message](folder)
    with pytest.raises(UserError, match=message):
        melu_files.read(folder, counts)
