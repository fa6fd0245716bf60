"""`recmeta score` with whatever new users bring."""

from pathlib import Path

import polars as pl
import pytest
from cli_calls import COLUMNS, VALUES, Call, Called, run_arguments

from recmeta import schema


@pytest.fixture
def new_users(tmp_path: Path) -> Path:
    path = tmp_path / "new.csv"
    path.write_text(
        "uid,sku,stars\n"
        "a,i1,5\n"
        "a,i1,4\n"  # again: the later row counts
        "a,i2,1\n"
        "a,nowhere,3\n"  # not in the catalogue
        "b,,\n"  # nothing is known of b
        "c,i3,9\n"  # outside the range
    )
    return path


def lists(called: Called) -> pl.DataFrame:
    table = pl.read_delta(called.json["recommendations"])
    return table.filter(pl.col(schema.RUN) == called.json["run"]).sort("user_id", "rank")


def test_every_row_is_counted_and_everyone_gets_a_list(
    finished: tuple[Path, Called], recmeta: Call, new_users: Path
) -> None:
    workspace, _ = finished
    arguments = ["score", new_users, *COLUMNS, "--value-col", "stars", "-w", workspace, "--json"]
    arguments += ["--max-bad-share", 0.5]
    called = recmeta(*arguments, "--top-k", 7)
    assert called.code == 0, called.stderr
    counts = {k: called.json[k] for k in ("users", "used", "duplicates", "unknown_items")}
    assert counts == {"users": 3, "used": 2, "duplicates": 1, "unknown_items": 1}
    assert (called.json["bad_values"], called.json["bad_rows"]) == (1, 0)
    assert called.json["without_interactions"] == 2
    assert called.json["model_version"] == "1"
    found = lists(called)
    assert found.group_by("user_id").len().sort("user_id").rows() == [("a", 7), ("b", 7), ("c", 7)]
    assert not found.filter(
        (pl.col("user_id") == "a") & pl.col("item_id").is_in(["i1", "i2"])
    ).height
    seen = recmeta(*arguments, "--no-exclude-seen", "--top-k", 40)
    assert lists(seen).filter(pl.col("user_id") == "a").height == 40
    again = recmeta(*arguments, "--top-k", 7)
    assert again.json["reused"] is True
    assert again.json["run"] == called.json["run"]


def test_everyone_who_is_named_gets_a_list_whatever_the_rest_of_the_row(
    finished: tuple[Path, Called], recmeta: Call, tmp_path: Path
) -> None:
    path = tmp_path / "odd.csv"
    rows = ["a,i1,", "b,i1,nan", "c,i1,much", "d,nowhere,", ",i1,3", "e,i1,3,4"]
    path.write_text("\n".join(["user_id,item_id,value", *rows]) + "\n")
    arguments = ["score", path, "-w", finished[0], "--json"]
    refused = recmeta(*arguments)
    assert refused.code == 2
    assert "6 of 6 interactions were not used: 1 of items" in refused.json["error"]
    assert "--max-bad-share" in refused.json["error"]
    called = recmeta(*arguments, "--max-bad-share", 1)
    assert called.code == 0, called.stderr
    assert "so lists are those of users without interactions" in called.stderr
    expected = {"bad_values": 3, "unknown_items": 1, "bad_rows": 2, "users": 4, "used": 0}
    assert {name: called.json[name] for name in expected} == expected


def test_a_file_without_users_says_so(
    finished: tuple[Path, Called], recmeta: Call, tmp_path: Path
) -> None:
    path = tmp_path / "empty.csv"
    path.write_text("user_id,item_id,value\n")
    called = recmeta("score", path, "-w", finished[0], "--json")
    assert (called.code, called.json["users"]) == (0, 0), called.stderr
    assert "names no user" in called.stderr


def test_columns_with_the_tables_names_need_no_options(
    finished: tuple[Path, Called], recmeta: Call, new_users: Path, tmp_path: Path
) -> None:
    workspace, _ = finished
    plain = tmp_path / "plain.csv"
    body = new_users.read_text().partition("\n")[2]
    plain.write_text("user_id,item_id,value\n" + body)
    called = recmeta("score", plain, "-w", workspace, "--json", "--max-bad-share", 0.5)
    assert called.json["used"] == 2
    named = recmeta("score", new_users, *COLUMNS, "-w", workspace, "--json")
    assert named.code == 2
    assert "--value-col" in named.json["error"]


def test_profiles_are_read_by_the_models_own_names(
    finished: tuple[Path, Called], recmeta: Call, tmp_path: Path
) -> None:
    workspace, _ = finished
    plain, profiles = tmp_path / "plain.csv", tmp_path / "profiles.csv"
    plain.write_text("user_id,item_id,value\na,i1,5\n")
    profiles.write_text("who,city,shoe\na,Lviv,44\nz,Kyiv,40\n")
    arguments = ["score", plain, "-w", workspace, "--json", "--profiles", profiles]
    called = recmeta(*arguments, "--profile-id-col", "who")
    assert called.code == 0, called.stderr
    assert (called.json["users"], called.json["without_profile"]) == (2, 0)
    assert "not read: shoe; the model knows no such attribute." in called.stderr
    profiles.write_text("who,shoe\na,44\n")
    called = recmeta(*arguments, "--profile-id-col", "who")
    assert called.code == 2
    assert "none of the columns age, city" in called.json["error"]


def test_mistakes(finished: tuple[Path, Called], recmeta: Call, new_users: Path) -> None:
    workspace, _ = finished
    arguments = ["score", new_users, *COLUMNS, "--value-col", "stars", "-w", workspace, "--json"]
    assert "no version '9'" in recmeta(*arguments, "--model-version", 9).json["error"]
    assert "--top-k is 0" in recmeta(*arguments, "--top-k", 0).json["error"]
    missing = recmeta("score", new_users.with_name("no.csv"), "-w", workspace, "--json")
    assert missing.code == 2


def test_adapt_stops_before_scoring(
    finished: tuple[Path, Called], recmeta: Call, new_users: Path
) -> None:
    workspace, _ = finished
    called = recmeta(
        "adapt",
        new_users,
        *COLUMNS,
        *VALUES[:2],
        "-w",
        workspace,
        "--json",
        "--max-bad-share",
        0.2,
        "--max-unknown-share",
        0.2,
    )
    assert called.json["users"] == 3
    assert (workspace / called.json["states"]).is_dir()


def test_run_scores_the_new_users_that_it_is_given(
    finished: tuple[Path, Called], folder: Path, recmeta: Call, tmp_path: Path
) -> None:
    workspace, first = finished
    new, profiles = tmp_path / "new.csv", tmp_path / "profiles.csv"
    new.write_text("uid,sku,ts,stars\nnewcomer,i1,1700900000,5\n")
    profiles.write_text("user_id,age,city\nnewcomer,33,Lviv\nquiet,44,Kyiv\n")
    arguments = [*run_arguments(folder, workspace), "--force", "--new-users", new]
    called = recmeta(*arguments, "--profiles", profiles)
    assert called.code == 0, called.stderr
    assert called.json["score"]["users"] == 2
    assert called.json["recommendations_run"] != first.json["recommendations_run"]
