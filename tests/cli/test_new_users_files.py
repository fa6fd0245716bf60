"""Files of new users as people have them: used, or refused in a sentence that says what to type."""

import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from cli_calls import Call, Called, run_arguments

HEADER = "user_id,item_id,value"
TYPED = pl.DataFrame({"user_id": [1], "item_id": ["i1"], "value": [5]})


def written(path: Path, content: Any) -> Path:
    if isinstance(content, pl.DataFrame):
        content.write_parquet(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content", "used"),
    [
        ("ok.csv", f"{HEADER}\na,i1,5\na,i2,4\n", 2),
        ("bom.csv", f"\ufeff{HEADER}\r\na,i1,5\r\n", 1),
        ("iso.csv", f"{HEADER},timestamp\na,i1,5,2024-01-01 10:00\na,i2,4,2024-01-02\n", 2),
        ("ms.csv", f"{HEADER},timestamp\na,i1,5,1704067200000\na,i2,4,1704067200001\n", 2),
        ("s.csv", f"{HEADER},timestamp\na,i1,5,1704067200\n", 1),
        ("slash.csv", f"{HEADER},timestamp\na,i1,5,31/12/2023 10:00\na,i2,4,01/01/2024 10:00\n", 2),
        ("blank.csv", f"{HEADER},timestamp\na,i1,5,\na,i2,4,\n", 2),
        (
            "typed.parquet",
            pl.DataFrame(
                {
                    "user_id": [2**64 - 1],
                    "item_id": ["i1"],
                    "value": [5],
                    "timestamp": [datetime.datetime(2024, 1, 1)],
                },
                schema_overrides={"user_id": pl.UInt64},
            ),
            1,
        ),
        (
            "null.parquet",
            TYPED.with_columns(timestamp=None),
            1,
        ),
    ],
)
def test_files_that_are_used(
    finished: tuple[Path, Called],
    recmeta: Call,
    tmp_path: Path,
    name: str,
    content: Any,
    used: int,
) -> None:
    path = written(tmp_path / name, content)
    called = recmeta("adapt", path, "-w", finished[0], "--json")
    assert called.code == 0, called.stderr
    assert (called.json["users"], called.json["used"]) == (1, used)
    assert "not used" not in called.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f'{HEADER}\na,i1,"4,5"\na,i2,"3,0"\n', "'4,5' are read with --decimal ','"),
        (f"{HEADER}\na,Thing 3,5\n", "'Thing 3', which is the title of the item 'i3'"),
        (f"{HEADER}\na,nope,5\n", "of items that the model does not know (such as 'nope'"),
        (f"{HEADER},timestamp\na,i1,5,2099-01-01\n", "1 that cannot be read (future_time)"),
        ("userId,movieId,rating\na,i1,5\n", "Did you mean 'userId'? Name it with --user-col"),
        ("user_id,item_id,rating\na,i1,5\n", "--value-col, or value_col in the mapping). It has"),
        (",".join(f"c{n}" for n in range(5_000)) + "\n1\n", "c19 and 4,980 more"),
        (
            pl.DataFrame(
                {"user_id": [1], "item_id": ["i1"], "value": [5], "timestamp": [datetime.time(1)]}
            ),
            "are not times",
        ),
    ],
)
def test_files_of_which_nothing_can_be_used_are_refused(
    finished: tuple[Path, Called], recmeta: Call, tmp_path: Path, content: Any, said: str
) -> None:
    ending = "parquet" if isinstance(content, pl.DataFrame) else "csv"
    path = written(tmp_path / f"new.{ending}", content)
    called = recmeta("score", path, "-w", finished[0], "--json")
    assert called.code == 2, called.stderr
    assert said in called.json["error"]
    assert len(called.json["error"]) <= 3_010


def test_the_share_holds_whatever_was_adapted_before(
    finished: tuple[Path, Called], recmeta: Call, tmp_path: Path
) -> None:
    path = written(tmp_path / "new.csv", f"{HEADER}\na,i1,5\na,i2,4\na,nope,3\na,i3,9\n")
    arguments = ["score", path, "-w", finished[0], "--json"]
    for _ in range(2):
        taken = recmeta(*arguments, "--max-bad-share", 0.5)
        assert taken.code == 0, taken.stderr
        said = "2 of 4 interactions were not used: 1 of items that the model does not know"
        assert said in taken.stderr
        assert taken.json["unused"].startswith(said)
        refused = recmeta(*arguments)
        assert refused.code == 2
        assert "more than max_bad_share (--max-bad-share) allows (10.0%)" in refused.json["error"]
    assert taken.json["reused"] is True
    apart = [*arguments, "--max-bad-share", 0.25, "--max-unknown-share"]
    assert recmeta(*apart, 0.25).code == 0
    refused = recmeta(*apart, 0.2)
    assert refused.code == 2
    assert "max_unknown_share (--max-unknown-share) allows (20.0%)" in refused.json["error"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--max-uncertainty", "nan"), "max_uncertainty is nan; it must be a number"),
        (("--max-age-days", 10**9), "--max-age-days is 1000000000; it must be from 0"),
        (("--min-interactions", -1), "--min-interactions is -1"),
        (("--max-bad-share", 2), "--max-bad-share is 2.0"),
        (("--model-version", "9" * 30), "has no version"),
        (("--workspace", "a\0b"), "this machine cannot have such a path"),
        (("--user-col", "x" * 500), "xxx…'. Name it with --user-col"),
    ],
)
def test_options_are_named_as_they_are_typed(
    finished: tuple[Path, Called],
    recmeta: Call,
    tmp_path: Path,
    options: tuple[object, ...],
    said: str,
) -> None:
    path = written(tmp_path / "new.csv", f"{HEADER}\na,i1,5\n")
    called = recmeta("score", path, "-w", finished[0], "--json", *options)
    assert called.code == 2, called.stdout
    assert said in called.json["error"]
    far = recmeta("score", "x" * 5_000, "-w", finished[0], "--json")
    assert far.code == 2
    assert "this machine cannot have such a path" in far.json["error"]


def test_a_picture_that_cannot_be_written_is_refused(
    finished: tuple[Path, Called], recmeta: Call, tmp_path: Path
) -> None:
    called = recmeta("explain", "u1", "i1", "-w", finished[0], "--json", "--plot", tmp_path)
    assert called.code == 2
    assert "--plot" in called.json["error"]
    assert "cannot be written: Is a directory" in called.json["error"]


@pytest.mark.parametrize("content", ["user_id\nx\ny\n\ny\n", "\ufeffuser_id\r\nx\r\ny\r\n"])
def test_a_file_of_users_alone_names_strangers(
    finished: tuple[Path, Called], recmeta: Call, tmp_path: Path, content: str
) -> None:
    path = written(tmp_path / "users.csv", content)
    called = recmeta("score", path, "-w", finished[0], "--json", "--top-k", 2)
    assert called.code == 0, called.stderr
    found = [called.json[name] for name in ("users", "used", "without_interactions")]
    assert found == [2, 0, 2]
    assert "No interaction of these users is known" in called.stderr
    adapted = recmeta("adapt", path, "-w", finished[0], "--json")
    assert (adapted.code, adapted.json["users"]) == (0, 2)
    assert "No interaction of these users is known" in adapted.stderr


def test_run_tells_unknown_items_from_bad_rows(
    finished: tuple[Path, Called], recmeta: Call, folder: Path, tmp_path: Path
) -> None:
    rows = "uid,sku,ts,stars\na,i1,1700000000,5\na,nope,1700000001,4\n"
    path = written(tmp_path / "new.csv", rows)
    arguments = [*run_arguments(folder, finished[0]), "--device", "cpu", "--new-users", path]
    refused = recmeta(*arguments)
    assert refused.code == 2
    assert "more than max_bad_share (--max-bad-share) allows (10.0%)" in refused.stderr
    refused = recmeta(*arguments, "--max-unknown-share", 0.4)
    assert refused.code == 2
    assert "more than max_unknown_share (--max-unknown-share) allows (40.0%)" in refused.stderr
    alone = recmeta(*run_arguments(folder, finished[0]), "--max-unknown-share", 0.4)
    assert "--new-users, which is not given" in alone.stderr
    named = written(tmp_path / "named.csv", "uid\na\nb\n")
    told = recmeta(*run_arguments(folder, finished[0]), "--new-users", named, "--device", "cpu")
    assert told.code in (0, 3), told.stderr
    assert "No interaction of these users is known" in told.stderr
