"""Lists for whoever sends them out: files with titles, a preview, and one user's list."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from cli_calls import Call, Called

from recmeta import schema
from recmeta.errors import UserError
from recmeta.steps.serving import list_files
from recmeta.workspace import Workspace

NAMES = ["user_id", "rank", "item_id", "title", "relative_likelihood", "score", "uncertainty"]
REASONS = ["because_item", "because_title"]
OF_RUN = ["listed_by", "propensity", "model_version", "scored_at"]


@pytest.fixture(scope="module")
def titled(
    finished: tuple[Path, Called], recmeta: Call, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The finished workspace, whose items have titles since the model was trained."""
    folder = tmp_path_factory.mktemp("titled")
    items = "".join(f'i{n},"The ""Thing"", No. {n}"\n' for n in range(40))
    (folder / "items.csv").write_text(f"item_id,title\n{items}")
    (folder / "no_events.csv").write_text("user_id,item_id,value\nu1,i1,4\n")
    called = recmeta(
        *("ingest", folder / "no_events.csv", "--items", folder / "items.csv"),
        *("--value-col", "value", "-w", finished[0], "--json"),
    )
    assert called.code == 0, called.stderr
    return finished[0]


@pytest.fixture(scope="module")
def new_users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("new") / "new.csv"
    path.write_text("user_id,item_id,value\nzoe,i1,5\nzoe,i2,1\nzoe,i3,4\nadam,,\n")
    return path


def test_each_format_has_the_rows_of_the_table(
    titled: Path, recmeta: Call, new_users: Path, tmp_path: Path
) -> None:
    arguments = ["score", new_users, "-w", titled, "--json", "--top-k", 4]
    for name in ("a.csv", "a.parquet", "a.jsonl", "a/"):
        called = recmeta(*arguments, "--out", f"{tmp_path}/{name}")
        assert called.code == 0, called.stderr
        assert called.json["out"] == str(tmp_path / name)
    table = pl.read_delta(called.json["recommendations"])
    expected = table.filter(pl.col(schema.RUN) == called.json["run"]).sort("user_id", "rank")
    csv = pl.read_csv(tmp_path / "a.csv", schema_overrides={"model_version": pl.String})
    parquet, delta = pl.read_parquet(tmp_path / "a.parquet"), pl.read_delta(f"{tmp_path}/a")
    assert csv.columns == parquet.columns == delta.columns == [*NAMES, *REASONS, *OF_RUN]
    for found in (csv, parquet, delta.sort("user_id", "rank")):
        assert found["user_id"].to_list() == ["adam"] * 4 + ["zoe"] * 4
        for name in ("rank", "item_id", "because_item", "listed_by", "model_version"):
            assert found[name].to_list() == expected[name].to_list(), name
        assert found["score"].to_list() == pytest.approx(expected["score"].to_list(), abs=1e-6)
        for likelihoods in found["relative_likelihood"].to_numpy().reshape(2, 4):
            assert likelihoods[0] == 1
            assert (np.diff(likelihoods) <= 0).all()
            assert (likelihoods > 0).all()
        numbers = [item.removeprefix("i") for item in expected["item_id"]]
        assert found["title"].to_list() == [f'The "Thing", No. {n}' for n in numbers]
    assert parquet["scored_at"].to_list() == expected["scored_at"].to_list()
    because = parquet.filter(pl.col("because_item") == "i1")["because_title"]
    assert set(because) <= {'The "Thing", No. 1'}
    adam, zoe = (json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines())
    assert (adam["user_id"], zoe["user_id"], zoe["model_version"]) == ("adam", "zoe", "1")
    assert [one["item_id"] for one in zoe["recommendations"]] == csv["item_id"].to_list()[4:]
    assert list(zoe["recommendations"][0]) == [*NAMES[1:], *REASONS, "listed_by", "propensity"]
    bare = recmeta(*arguments, "--no-reasons", "--out", tmp_path / "a.csv")
    assert bare.code == 0, bare.stderr
    assert pl.read_csv(tmp_path / "a.csv").columns == [*NAMES, *OF_RUN]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("a", "a.csv", "a.jsonl", "a.parquet")
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lists.xls", "must end in .csv, .parquet, .jsonl, or in / for a Delta table"),
        ("nowhere/lists.csv", "does not exist: create it"),
        ("taken", "is there and is no Delta table"),
        ("file.csv/", "is there and is no Delta table"),
    ],
)
def test_a_place_that_does_not_fit_is_refused_before_anything_is_done(
    titled: Path, recmeta: Call, new_users: Path, tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "photo.png").write_bytes(b"")
    (tmp_path / "file.csv").write_text("mine")
    called = recmeta("score", new_users, "-w", titled, "--json", "--out", f"{tmp_path}/{name}")
    assert called.code == 2
    assert said in called.json["error"]
    assert (tmp_path / "file.csv").read_text() == "mine"
    inside = recmeta("score", new_users, "-w", titled, "--json", "--out", titled / "lists.csv")
    assert "lies in the workspace" in inside.json["error"]


def test_a_place_in_the_workspace_or_of_another_table_is_refused_however_it_is_spelled(
    tmp_path: Path,
) -> None:
    workspace = Workspace(tmp_path / "ws")
    (tmp_path / "ws").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "ws")
    for place in (f"file://{tmp_path}/ws/tables/items/", f"{tmp_path}/link/tables.csv"):
        with pytest.raises(UserError, match="lies in the workspace"):
            list_files.target_of(place, workspace)
    bucket = Workspace("s3://bucket/ws?region=us-east-1")
    with pytest.raises(UserError, match="lies in the workspace"):
        list_files.target_of("s3://bucket/ws/tables/items/", bucket)
    with pytest.raises(UserError, match="cannot open the location"):
        list_files.target_of("ftp://host/lists.csv", workspace)
    pl.DataFrame({"user_id": ["u"], "item_id": ["i"]}).write_delta(tmp_path / "log")
    with pytest.raises(UserError, match="without the column 'rank', so it does not hold lists"):
        list_files.target_of(f"{tmp_path}/log/", workspace)


def test_lists_of_an_earlier_table_have_no_reasons() -> None:
    known = pl.DataFrame({"item_id": ["i"], "title": ["The Thing"]})
    lists = pl.DataFrame({"user_id": ["u"], "rank": [1], "item_id": ["i"], "score": [0.5]})
    assert list_files.with_titles(lists, known).to_dicts() == [
        {"user_id": "u", "rank": 1, "item_id": "i", "title": "The Thing", "score": 0.5}
    ]


def test_the_first_lists_are_shown_and_anybodys_can_be(
    titled: Path, recmeta: Call, new_users: Path
) -> None:
    printed = recmeta("score", new_users, "-w", titled, "--top-k", 3).stdout
    said = "2 users have a list, 6 rows in all, made by version 1 of the model from 3 interactions"
    assert printed.startswith(f"{said}; nothing was known about 1 of them.")
    assert printed.index("## adam") < printed.index("## zoe")
    assert '| 1 | The "Thing", No. ' in printed
    shown = recmeta("show", "zoe", "-w", titled, "--json").json
    assert [(one["item_id"], one["value"]) for one in shown["interactions"]] == [
        *(("i1", 5.0), ("i2", 1.0), ("i3", 4.0))
    ]
    assert [one["rank"] for one in shown["recommendations"]] == [1, 2, 3]
    assert shown["recommendations"][0]["because_item"] in {"i1", "i2", "i3", None}
    text = recmeta("show", "zoe", "-w", titled).stdout
    assert '| The "Thing", No. 1 (i1) | 5 |' in text
    stranger = recmeta("show", "adam", "-w", titled, "--json").json
    assert (stranger["interactions"], stranger["profile"]) == ([], {})


def test_a_user_of_the_log_is_shown_what_the_champion_makes_of_it(
    titled: Path, recmeta: Call
) -> None:
    lists = pl.read_delta(str(titled / "tables/recommendations"))
    log = pl.read_delta(str(titled / "tables/interactions"))
    (user, *_) = sorted(set(log["user_id"]) - set(lists["user_id"]))
    called = recmeta("show", user, "-w", titled, "--json")
    assert called.code == 0, called.stderr
    assert "it was made of the log now" in called.stderr
    own = set(log.filter(pl.col("user_id") == user)["item_id"])
    assert {one["item_id"] for one in called.json["interactions"]} == own
    listed = [one["item_id"] for one in called.json["recommendations"]]
    assert len(listed) == 10
    assert not own & set(listed)
    assert called.json["run"] is None
    assert set(called.json["profile"]) == {"age", "city"}
    unknown = recmeta("show", "nobody", "-w", titled, "--json")
    assert unknown.code == 2
    assert "knows no user 'nobody'" in unknown.json["error"]


def test_maintenance_is_a_command(titled: Path, recmeta: Call) -> None:
    called = recmeta("maintain", "--recommendation-runs", 0, "-w", titled, "--json")
    assert called.code == 0, called.stderr
    assert called.json["expired"]["recommendations"] == 0  # all are of the last 24 hours
    assert called.json["fewer_files"] == {}  # no table has 16
    compacted = recmeta("maintain", "--min-files", 2, "-w", titled, "--json")
    assert all(count > 0 for count in compacted.json["fewer_files"].values())
    refused = recmeta("maintain", "--state-days", 0, "-w", titled, "--json")
    assert "--state-days is 0; it must be at least 1 day" in refused.json["error"]
