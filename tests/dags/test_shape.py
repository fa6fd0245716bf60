"""What the DAG files are built with, read from the environment."""

import datetime
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from recmeta.errors import UserError
from recmeta.orchestration import local
from recmeta.orchestration.pools import pools
from recmeta.orchestration.shape import late_after, time_limit, workspace_names
from recmeta.schema import INTERACTIONS
from recmeta.workspace import Workspace


def test_one_workspace_without_a_name_is_the_rule() -> None:
    assert workspace_names({}) == workspace_names({"RECMETA_WORKSPACES": ""}) == [None]
    assert workspace_names({"RECMETA_WORKSPACES": "shop, books"}) == ["shop", "books"]


@pytest.mark.parametrize(
    ("text", "message"), [("Shop", "has the name 'Shop'"), ("a,b a", "has the name 'a' twice")]
)
def test_bad_names_are_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        workspace_names({"RECMETA_WORKSPACES": text})


def test_time_limits_are_hours_by_task() -> None:
    env = {"RECMETA_TIME_LIMITS": "ingest=6, meta-train = 0.25"}
    assert time_limit("ingest", env) == datetime.timedelta(hours=6)
    assert time_limit("meta-train", env) == datetime.timedelta(minutes=15)
    assert time_limit("build-tasks", env) == time_limit("build-tasks", {})
    assert late_after({}) is late_after({"RECMETA_LATE_AFTER": ""}) is None
    assert late_after({"RECMETA_LATE_AFTER": "1.5"}) == datetime.timedelta(minutes=90)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inges=6", "names 'inges', no task. Did you mean 'ingest'"),
        ("ingest=soon", "says 'ingest=soon'; it must be a number of hours"),
        ("ingest=0", "must be a number of hours"),
        ("ingest", "must be a number of hours"),
        ("ingest=nan", "must be a number of hours"),
    ],
)
def test_bad_limits_are_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        time_limit("ingest", {"RECMETA_TIME_LIMITS": text})


def test_the_pools_are_those_that_the_dags_name(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "recmeta.orchestration.pools"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == pools()
    assert set(pools()) == {"recmeta_tables", "recmeta_gpu", "recmeta_scoring"}
    monkeypatch.setenv("RECMETA_WORKSPACES", "shop,books")
    assert {n: p["slots"] for n, p in pools().items()} == {
        "recmeta_tables_shop": 1,
        "recmeta_tables_books": 1,
        "recmeta_gpu": 1,
        "recmeta_scoring": 2,
    }


def test_a_workspace_that_knows_its_log_is_not_replayed_into(tmp_path: Path) -> None:
    (Workspace(tmp_path) / INTERACTIONS.path).write_bytes("x", b"")
    with pytest.raises(UserError, match="has interactions already"):
        local.replayed_movielens(tmp_path)


def test_a_port_in_use_is_told_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"listens at port {port}: .* MLFLOW_PORT"):
            local.check_ports({"airflow": 1, "mlflow": port})
    local.check_ports({"mlflow": port})
