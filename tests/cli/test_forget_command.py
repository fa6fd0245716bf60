"""`recmeta forget`: afterwards no byte of the workspace is of the user."""

from pathlib import Path

import polars as pl
import pyarrow.ipc as ipc
import pytest
from cli_calls import Call, Called, run_arguments
from deltalake import DeltaTable
from traces import found_in

from recmeta.analysis.open_workspace import OpenWorkspace
from recmeta.doctor import examine
from recmeta.registry.models import versions
from recmeta.registry.models.forgotten import why_retrain
from recmeta.workspace import Workspace

NAMES = [f"zz-forget-{n}-me-zz" for n in range(12)]


@pytest.fixture(scope="module")
def workspace(
    finished: tuple[Path, Called],
    folder: Path,
    recmeta: Call,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A workspace with users under names that nothing else contains, and traces of them in all of
    it."""
    place = tmp_path_factory.mktemp("forget")
    log = place / "log"
    log.mkdir()
    for name in ("events.csv", "users.csv", "items.csv", "fast.toml"):
        lines = (folder / name).read_text().splitlines()
        for number, new in enumerate(NAMES):
            old = f"u{number},"
            lines = [f"{new},{x.removeprefix(old)}" if x.startswith(old) else x for x in lines]
        if name == "events.csv":  # for the quarantine
            lines += [f"{new},i1,not-a-time,3" for new in NAMES]
        (log / name).write_text("\n".join(lines) + "\n")
    workspace = place / "workspace"
    called = recmeta(*run_arguments(log, workspace), "--force")
    assert called.code == 0, called.stderr
    new = place / "new.csv"
    rows = [f"{name},i1,5" for name in NAMES]
    new.write_text("\n".join(["user_id,item_id,value", "other,i2,4", *rows]) + "\n")
    assert recmeta("score", new, "-w", workspace, "--json").code == 0
    return workspace


def members(workspace: Path, split: str) -> list[str]:
    """Return those of the names who are in a split of the tasks."""
    (tasks,) = (workspace / "tasks").iterdir()
    ids = {user for path in tasks.glob(f"{split}-*.arrow") for user in users_of(path)}
    return [name for name in NAMES if name in ids]


def users_of(path: Path) -> list[str]:
    found: list[str] = ipc.open_file(path).read_all()["user_id"].to_pylist()
    return found


def test_no_byte_is_left(workspace: Path, recmeta: Call) -> None:
    """First of a user on whom no model was trained, then of one on whom it was."""
    cold, trained = members(workspace, "test")[0], members(workspace, "train")[0]
    interactions = str(workspace / "tables" / "interactions")
    recommendations = str(workspace / "tables" / "recommendations")
    everywhere = ("interactions", "quarantine", "users", "user_activity", "recommendations")
    space = Workspace(workspace)
    for user in (cold, trained):
        before = found_in(workspace, user)
        for place in (*(f"tables/{name}" for name in everywhere), "tasks" if user == cold else ""):
            assert any(f.startswith(place) for f in before), place
        others = pl.read_delta(interactions).filter(pl.col("user_id") != user)
        lists = pl.read_delta(recommendations).filter(pl.col("user_id") != user)
        version = DeltaTable(interactions).version()

        called = recmeta("forget", user, "-w", workspace, "--json", "--reference", "request 7")
        assert called.code == 0, called.stderr
        assert found_in(workspace, user) == []
        assert called.json["interactions"] > 0
        assert called.json["quarantine"] == 1
        key = ["user_id", "item_id", "timestamp"]
        assert pl.read_delta(interactions).sort(key).equals(others.sort(key))
        assert DeltaTable(interactions).version() > version
        key = ["run", "user_id", "rank"]
        assert pl.read_delta(recommendations).sort(key).equals(lists.sort(key))

        champion = versions.champion(space)
        assert champion is not None
        checks = {check.name: check for check in examine(str(workspace))}
        if user == cold:
            assert called.json["models"] == []
            assert checks["mlflow"].status == "ok"
            built = recmeta("build-tasks", "-w", workspace, "--json")
            assert built.code == 0, built.stderr
        else:  # the task set of its training is gone: it may have been trained on anybody
            assert called.json["models"] == [champion.version]
            assert "were forgotten on" in str(why_retrain(champion))
            assert checks["mlflow"].status == "warn"
        again = recmeta("forget", user, "-w", workspace, "--json")
        assert again.code == 0, again.stderr
        assert again.json["interactions"] == again.json["tasks"] == 0
    gone = recmeta("evaluate", "-w", workspace, "--json")
    assert gone.code == 2
    assert "run `recmeta build-tasks`" in gone.json["error"]
    records = [path.read_text() for path in (workspace / "manifests" / "forget").iterdir()]
    assert sum("request 7" in record for record in records) == 2
    assert "ingest" in set(OpenWorkspace(workspace).steps()["step"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((" ",), "no user to forget"), (("u1", "--reference", "for u1"), "contains the user's id")],
)
def test_mistakes(
    finished: tuple[Path, Called], recmeta: Call, arguments: tuple[str, ...], message: str
) -> None:
    called = recmeta("forget", *arguments, "-w", finished[0], "--json")
    assert called.code == 2
    assert message in called.json["error"]


def test_a_workspace_or_user_that_is_not_there_is_told(
    finished: tuple[Path, Called], recmeta: Call, tmp_path: Path
) -> None:
    for command in (("forget", "u1"), ("maintain",)):
        called = recmeta(*command, "-w", tmp_path / "absent", "--json")
        assert called.code == 2
        assert "there is no workspace at" in called.json["error"]
    called = recmeta("forget", "nobody-of-that-id", "-w", finished[0], "--yes")
    assert called.code == 0
    assert "Nothing of them was found" in called.stderr


def test_who_does_not_agree_forgets_nobody(recmeta: Call, tmp_path: Path) -> None:
    """Without a yes, as in a script without --yes, nothing is removed, and the message says so."""
    (tmp_path / "tables").mkdir()
    called = recmeta("forget", "u", "-w", tmp_path)  # standard input is at its end
    assert called.code == 2
    assert called.stderr.endswith("error: nothing was removed: answer y, or add --yes.\n")
    missing = recmeta("forget", "u", "-w", tmp_path / "other")
    assert missing.code == 2
    assert "there is no workspace" in missing.stderr
