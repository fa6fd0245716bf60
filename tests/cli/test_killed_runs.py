"""`recmeta run` killed at any moment and run again is a run that was never killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from cli_calls import run_arguments
from deltalake import DeltaTable
from polars.testing import assert_frame_equal

from recmeta.schema import INGESTED_AT, SCORED_AT, TABLES
from recmeta.workspace import Workspace

NUM_KILLS = 5
REFUSED = 3  # so few cold users do not convince the gate
RESULTS = ("model.safetensors", "encoder.arrow", "evaluation.json", "decision.json", "report.md")


def start(folder: Path, workspace: Path) -> subprocess.Popen[bytes]:
    """Start `recmeta run` in a process group of its own."""
    command = [sys.executable, "-m", "recmeta.cli", *map(str, run_arguments(folder, workspace))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--device", "cpu"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=environment,
    )


def finish(folder: Path, workspace: Path) -> float:
    """Run to the end, and return the seconds that it took."""
    started = time.monotonic()
    process = start(folder, workspace)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == REFUSED, errors.decode()
    return time.monotonic() - started


def contents(workspace: Path) -> dict[str, pl.DataFrame]:
    """Return the tables without the clock's columns, sorted by their keys."""
    found = {}
    for table in TABLES:
        uri = Workspace(workspace).table_uri(table)
        if DeltaTable.is_deltatable(uri):
            frame = pl.read_delta(uri).drop(INGESTED_AT, SCORED_AT, strict=False)
            found[table.name] = frame.sort(table.key)
    return found


def results(workspace: Path) -> dict[str, bytes]:
    """Return models and evaluations, by their paths."""
    return {
        str(path.relative_to(workspace)): path.read_bytes()
        for kind in ("models", "reports", "tasks")
        for path in sorted((workspace / kind).rglob("*"))
        if path.name in RESULTS or path.suffix == ".arrow"
    }


@pytest.fixture(scope="module")
def reference(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A workspace that no kill has touched, and the seconds that it took."""
    workspace = tmp_path_factory.mktemp("reference") / "ws"
    return workspace, finish(folder, workspace)


slow = pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it")


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=(slow, pytest.mark.slow)) for n in range(NUM_KILLS)]
)
def test_a_killed_run_goes_on(
    folder: Path, reference: tuple[Path, float], tmp_path: Path, number: int
) -> None:
    whole, seconds = reference
    # Random, yet one in each fifth of the run, so that early and late steps are both hit.
    moment = seconds * (number + random.Random(number).random()) / NUM_KILLS
    workspace = tmp_path / "ws"
    process = start(folder, workspace)
    time.sleep(moment)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    finish(folder, workspace)
    expected, found = contents(whole), contents(workspace)
    assert list(found) == list(expected)
    for name, frame in expected.items():
        assert_frame_equal(found[name], frame, check_exact=True)
    assert results(workspace) == results(whole)
    assert (workspace / "report.md").read_text() == (whole / "report.md").read_text()
