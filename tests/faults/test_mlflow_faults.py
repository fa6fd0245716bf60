"""An MLflow that is cut off, silent, broken or locked is given up on, and its runs are closed."""

import contextlib
import http.server
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from counting import ALL, Faults
from running import COLUMNS, LEARNER, NEW, call, recmeta

from recmeta.registry import old_locations, owners, tracking
from recmeta.workspace import Workspace

SLACK = 20.0
"""Seconds that a command may take beside waiting, on a machine with other work."""
LOG = ["--dataset", "interactions.csv", *COLUMNS]
COMMANDS: list[list[object]] = [
    ["meta-train", *LEARNER, "--seed", 5],
    ["score", *NEW],
    ["run", *LOG, *LEARNER, "--no-rival", "--seed", 6],
    ["tune", "--learner", "bayesian-linear", "--epochs", 1, "--trials", 1],
    ["evaluate", "--config", "fast.toml"],
    ["register"],
    ["adapt", *NEW],
    ["explain", "u01", "i01"],
    ["evidence", "--strategy", "popularity"],
    ["rollback"],
    ["rebuild", "0" * 32],
    ["forget", "u01"],
    ["doctor"],
]
"""All that ask MLflow, the ones that the default suite takes first."""

RUNS = """
import sys, time
from recmeta.registry.models.features import FeaturesRead
from recmeta.registry.owners import tags_of_owner
from recmeta.registry import tracking
from recmeta.registry.runs.training_run import TrainingRun
from recmeta.registry.runs.tuning import SearchRun
from recmeta.workspace import Workspace
workspace = Workspace("ws")
features = FeaturesRead(service="s", features=(), with_model=(), digest="d")
training = TrainingRun.start_or_resume(
    workspace, "k", config={}, inputs={}, tasks_config={}, features=features, device="cpu",
    libraries={}, git_commit=None)
search = SearchRun.start_or_resume(workspace, "s", learners=["a"], inputs={})
with training, search:
    search.start_trial(0, "first", {"x": 1})
    print("begun", flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def running(*arguments: object, code: str | None = None) -> Iterator[subprocess.Popen[str]]:
    """Start a command in a process of its own, or some code; kill it behind the block."""
    command = [sys.executable, *(["-c", code] if code else ["-m", "recmeta.cli"])]
    process = subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def statuses(workspace: str = "ws") -> dict[str, str]:
    """Return the status of every run, without opening the store for writing."""
    with contextlib.closing(sqlite3.connect(f"file:{workspace}/mlflow.db?mode=ro", uri=True)) as c:
        return dict(c.execute("SELECT run_uuid, status FROM runs").fetchall())


# Runs whose owner was killed ---------------------------------------------------------------------


def test_runs_are_closed_when_their_owner_is_dead_not_before(faults: Faults, here: Path) -> None:
    before = statuses()
    with running(code=RUNS) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        begun = [run for run, status in statuses().items() if status == "RUNNING"]
        assert len(begun) == 3  # the training, the study and its trial
        shutil.copytree("ws", "copy")
        workspace = Workspace("ws")
        client = owners.connect_to_write(workspace)
        faults.check(all(statuses()[run] == "RUNNING" for run in begun), "a living run was closed")
    faults.inject("a run of MLflow whose owner was killed", len(begun))
    champion = recmeta("rollback", "-w", "ws")["champion"]  # reads and moves an alias, no more
    assert champion == "1"
    owners.connect_to_write(workspace)
    after = statuses()
    faults.check(all(after[run] == "KILLED" for run in begun), f"{after}")
    faults.check({run: after[run] for run in before} == before, "another run was changed")
    # Whoever copied the workspace has the runs, and not their owner.
    owners.connect_to_write(Workspace("copy"))
    faults.check(all(statuses("copy")[run] == "KILLED" for run in begun), "in the copy")
    owners.own(client, workspace, begun[0])  # as whoever resumes it does
    faults.check(owners.close_abandoned(client, workspace) == [], "a resumed run was closed")


def test_an_owner_that_cannot_be_asked_is_dead_when_it_was_silent(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace("ws")
    client = tracking.connect(workspace)
    experiment = tracking.experiment_id(client)
    elsewhere = {owners.OWNER: "another-host-7-0a1b2c3d"}
    now = owners.tags_of_owner(workspace)[owners.ALIVE_AT]
    silent = {**elsewhere, owners.ALIVE_AT: "2020-01-01T00:00:00+00:00"}
    new = tracking.create_run(client, experiment, "new", "test", elsewhere)
    old = tracking.create_run(client, experiment, "old", "test", silent)
    alive = tracking.create_run(client, experiment, "a", "test", {**silent, owners.ALIVE_AT: now})
    strange = {owners.OWNER: "../../etc/passwd", owners.ALIVE_AT: "yesterday"}
    strange_run = tracking.create_run(client, experiment, "strange", "test", strange)
    assert owners.close_abandoned(client, workspace) == [old]
    running_now = {run for run, status in statuses().items() if status == "RUNNING"}
    assert running_now == {new, alive, strange_run}
    monkeypatch.setattr(owners, "BEAT_SECONDS", 0.05)
    with owners.Heartbeat(client) as heartbeat:
        heartbeat.add(new)
        deadline = time.monotonic() + 60
        while owners.ALIVE_AT not in client.get_run(new).data.tags:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.skipif(not ALL, reason="RECMETA_FAULTS=1 runs it")
@pytest.mark.timeout(3600)
def test_commands_that_are_killed_leave_no_run_running(faults: Faults, here: Path) -> None:
    draw = random.Random(0)
    tune = ["tune", "-w", "ws", "--learner", "bayesian-linear", "--epochs", 3, "--trials", 50]
    for number in range(faults.number(0, 5)):
        train = ["meta-train", "-w", "ws", "--learner", "maml", "--epochs", 500, "--seed", number]
        evaluate = ["evaluate", "-w", "ws", "--device", "cpu"]
        command = (train, tune, evaluate)[number % 3]
        with running(*command) as process:
            deadline = time.monotonic() + 600
            while "RUNNING" not in statuses().values() and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(draw.random())
        if "RUNNING" in statuses().values():
            faults.inject("a training, tuning or evaluation that was killed")
        owners.connect_to_write(Workspace("ws"))
        faults.check("RUNNING" not in statuses().values(), f"{command[0]}: still running")


# Servers that do not answer ----------------------------------------------------------------------


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """A server that accepts every connection and never answers."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(server.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=5)
        for connection in held:
            connection.close()


@contextlib.contextmanager
def failing() -> Iterator[str]:
    """A server that answers everything with 500."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(500)

        do_POST = do_PATCH = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_command_gives_up_on_a_server_that_does_not_answer(
    faults: Faults, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # the user's own values win
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    before = statuses()
    with failing() as address:  # what MLflow imports for its first request is not to be measured
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert call("doctor", "-w", "ws").exit_code == 2
    for server in (silent, failing):
        with server() as address:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
            for command, *arguments in COMMANDS[: faults.number(2, 6)]:
                faults.inject("an MLflow server that is silent, or answers 500")
                started = time.monotonic()
                called = call(command, "-w", "ws", *arguments, "--json")
                seconds = time.monotonic() - started
                what = f"{command}, {server.__name__}: {called.exit_code} after {seconds:.1f} s"
                faults.check(called.exit_code == 2, f"{what}: {called.output}")
                said = "127.0.0.1" in called.output or "MLflow" in called.output
                faults.check(said, f"{what}: {called.output}")
                faults.check(seconds < SLACK, what)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    faults.check(statuses() == before, "runs of the workspace's own store")
    faults.check("RUNNING" not in statuses().values(), "a run goes on")


def test_how_long_a_server_is_waited_for(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tracking.PATIENCE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    tracking.connect(Workspace("ws"))
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "2"


@pytest.mark.skipif(not ALL, reason="RECMETA_FAULTS=1 runs it")
def test_a_silent_server_is_given_up_on_in_time(
    faults: Faults, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in tracking.PATIENCE:
        monkeypatch.delenv(name, raising=False)
    with silent() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        for command, *arguments in COMMANDS[:3]:
            faults.inject("an MLflow server that is silent, for as long as it is waited for")
            started = time.monotonic()
            called = call(command, "-w", "ws", *arguments, "--json")
            seconds = time.monotonic() - started
            faults.check(called.exit_code == 2, f"{command}: {called.output}")
            faults.check(seconds < tracking.GIVEN_UP_SECONDS + SLACK, f"{command}: {seconds:.0f} s")


def test_serve_gives_up_on_a_server_that_does_not_answer(
    faults: Faults, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if ALL:
        for name in tracking.PATIENCE:
            monkeypatch.delenv(name, raising=False)
    else:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for server in (silent, failing):
        faults.inject("an MLflow server that is silent, or answers 500, when an endpoint starts")
        with server() as address, socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
            free.close()
            monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
            started = time.monotonic()
            called = call("serve", "--no-auth", "--port", port, "-w", "ws")
            seconds = time.monotonic() - started
        what = f"{server.__name__}: {called.exit_code} after {seconds:.1f} s"
        faults.check(called.exit_code == 2, f"{what}: {called.output}")
        said = "127.0.0.1" in called.output or "MLflow" in called.output
        faults.check(said, f"{what}: {called.output}")
        faults.check(seconds < (tracking.GIVEN_UP_SECONDS if ALL else 0) + SLACK, what)


# A database that another process locks -----------------------------------------------------------


def test_a_database_that_is_locked_is_given_up_on(
    faults: Faults, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not ALL:  # MLflow's own 20 seconds, for a lock against writing alone, take their time
        monkeypatch.setattr(old_locations, "SECONDS", 1)
    locks = ["EXCLUSIVE", "IMMEDIATE"][: faults.number(1, 2)]
    commands = COMMANDS[: faults.number(2, 4)]
    for lock in locks:
        with contextlib.closing(sqlite3.connect("ws/mlflow.db", isolation_level=None)) as holder:
            holder.execute(f"BEGIN {lock}")
            for command, *arguments in commands:
                if lock == "IMMEDIATE" and command not in WRITERS:
                    continue
                faults.inject("MLflow's database locked by another process")
                started = time.monotonic()
                called = call(command, "-w", "ws", *arguments, "--json")
                seconds = time.monotonic() - started
                what = f"{command}, {lock}: {called.exit_code} after {seconds:.1f} s"
                faults.check(called.exit_code == 2, f"{what}: {called.output}")
                faults.check("locked" in called.output, f"{what}: {called.output}")
                faults.check(seconds < 3 * 20 + SLACK, what)
            holder.execute("ROLLBACK")
    assert recmeta("score", *NEW, "-w", "ws")["model_version"] == "2"


WRITERS = ("meta-train", "run", "tune", "rollback")
