"""`recmeta off-policy` and `recmeta power`, as a person calls them."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from cli_calls import Call, Called

LOGGED = ["user_id,slate,item_id,rank,propensity,reward"] + [
    f"u{user},{slate},{'ab'[(user + slate) % 2]},1,0.5,{int((user + slate) % 2 == 0)}"
    for user in range(100)
    for slate in range(2)
]


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    path = tmp_path / "served.csv"
    path.write_text("\n".join(LOGGED) + "\n")
    return path


def lists(path: Path, item: str, users: range = range(100)) -> Path:
    pl.DataFrame(
        {"user_id": [f"u{user}" for user in users], "item_id": item, "rank": 1}
    ).write_parquet(path)
    return path


def test_the_list_that_is_always_taken_earns_one(
    recmeta: Call, logged: Path, tmp_path: Path
) -> None:
    others = lists(tmp_path / "others.parquet", "a")
    found = recmeta("off-policy", logged, "--lists", others, "--json")
    assert found.code == 0, found.stderr
    data = found.json
    assert data["logged"]["mean"] == 0.5
    assert data["estimates"]["snips"]["value"]["mean"] == 1
    assert data["estimates"]["dr"]["difference"]["mean"] == pytest.approx(0.5, abs=0.02)
    assert (data["num_users"], data["num_slates"], data["num_left_out"]) == (100, 200, 0)
    assert data["overlap"]["mean"] == 1
    assert found.stderr == ""
    told = recmeta("off-policy", logged, "--lists", others)
    assert "| doubly robust |" in told.stdout
    assert "200 lists of 100 users" in told.stdout


def test_poor_overlap_is_warned_of(recmeta: Call, logged: Path, tmp_path: Path) -> None:
    never = recmeta("off-policy", logged, "--lists", lists(tmp_path / "o.parquet", "c"))
    assert never.code == 0
    assert "never puts an item where the log has it" in " ".join(never.stderr.split())
    few = lists(tmp_path / "few.parquet", "a", range(3))
    some = recmeta("off-policy", logged, "--lists", few)
    assert "194 served lists are left out" in " ".join(some.stdout.split())
    assert "One user has 33% of all weight" in " ".join(some.stderr.split())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("propensity", "propensty"), "has no column 'propensity'. Did you mean 'propensty'?"),
        (("u0,0,a,1,0.5,1", "u0,0,a,1,0,1"), "has a propensity of 0"),
        (("u0,0,a,1,0.5,1", "u0,0,a,0,0.5,1"), "a rank that is not a whole number from 1"),
        (("u0,0,a,1,0.5,1", "u0,0,a,1,0.5,"), "as reward in row 1"),
        (("u0,1,b", "u0,0,b"), "more than one item at rank 1 of the list of user 'u0'"),
    ],
)
def test_a_log_that_cannot_be_read_so_is_refused(
    recmeta: Call, tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    path = tmp_path / "broken.csv"
    path.write_text("\n".join(LOGGED).replace(*change, 1) + "\n")
    found = recmeta("off-policy", path, "--lists", lists(tmp_path / "others.parquet", "a"))
    assert found.code == 2
    assert says in " ".join(found.stderr.split())


def test_what_is_asked_for_must_be_said(recmeta: Call, logged: Path, tmp_path: Path) -> None:
    for arguments, says in (
        ([], "give either --lists"),
        (["--lists", tmp_path / "none.csv"], "cannot be read"),
        (["--lists", tmp_path / "none.doc"], "it must end in .csv"),
        (["--lists", lists(tmp_path / "o.parquet", "a", range(200, 203))], "no list for a user"),
    ):
        found = recmeta("off-policy", logged, *arguments)
        assert found.code == 2
        assert says in " ".join(found.stderr.split()), found.stderr


def test_runs_of_the_workspace_are_served_and_other_lists(
    recmeta: Call, finished: tuple[Path, Called], tmp_path: Path
) -> None:
    workspace, called = finished
    run = called.json["recommendations_run"]
    from deltalake import DeltaTable

    table = pl.DataFrame(DeltaTable(called.json["recommendations"]).to_pyarrow_table())
    served = table.filter(pl.col("run") == run)
    random = np.random.default_rng(0)
    clicked = served.filter(pl.Series(random.random(served.height) < 0.3))
    clicks = tmp_path / "clicks.csv"
    clicked.select("user_id", "item_id").with_columns(reward=1).write_csv(clicks)
    found = recmeta("off-policy", clicks, "--served", run, "--run", run, "-w", workspace, "--json")
    assert found.code == 0, found.stderr
    mean = clicked.height / served["user_id"].n_unique()
    assert found.json["logged"]["mean"] == pytest.approx(mean)
    assert found.json["estimates"]["ips"]["value"]["mean"] == pytest.approx(mean)
    for bad in ("yes", ""):
        text = clicks.read_text().replace(",1\n", f",{bad}\n", 1)
        (tmp_path / "bad.csv").write_text(text)
        broken = recmeta(
            "off-policy", tmp_path / "bad.csv", "--served", run, "--run", run, "-w", workspace
        )
        assert broken.code == 2
        assert "as reward in row 1: every row must" in " ".join(broken.stderr.split())
    unknown = recmeta("off-policy", clicks, "--served", "no", "--run", run, "-w", workspace)
    assert unknown.code == 2
    assert "no lists of that run" in " ".join(unknown.stderr.split())


def test_power_counts_users_and_days(recmeta: Call) -> None:
    arguments = ["power", "--effect", 0.005, "--users-per-day", 2000]
    found = recmeta(*arguments, "--rate", 0.05, "--json")
    assert found.code == 0, found.stderr
    # Fleiss, Levin and Paik, equation 4.14, with equal groups.
    assert found.json["users_in_control"] == found.json["users_in_treatment"] == 31_234
    assert found.json["days"] == 32
    without = recmeta(*arguments)
    assert without.code == 2
    assert "give either rate" in " ".join(without.stderr.split())


RECORD = {"user_id": "u1", "item_id": "a", "rank": 1, "propensity": 0.5, "reward": 1.0}


@pytest.mark.parametrize("wrong", [[1.0], ["a"], {"a": 1}])
@pytest.mark.parametrize("column", RECORD)
def test_a_list_or_a_record_in_the_place_of_a_value_is_refused(
    recmeta: Call, tmp_path: Path, column: str, wrong: object
) -> None:
    others = lists(tmp_path / "others.parquet", "a")
    path = tmp_path / "served.jsonl"
    for first, row in (({**RECORD, column: wrong}, 1), (RECORD, 2)):
        second = {**RECORD, "user_id": "u2", column: wrong}
        path.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
        found = recmeta("off-policy", path, "--lists", others)
        assert found.code == 2
        said = " ".join(found.stderr.split())
        assert said.count("error:") == 1
        assert f"as {column} in line {row}: every line must have one text or number" in said
