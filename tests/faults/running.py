"""What tests of faults run: the command line in this process, and servers of other processes."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from click.testing import Result
from typer.testing import CliRunner

from recmeta.cli.app import build

FAST = """
[train]
start = "random"
[train.training]
epochs = 1
[evaluate]
baselines = ["item-mean"]
[evaluate.evaluation]
num_resamples = 50
"""
COLUMNS = ["--time-col", "timestamp", "--value-col", "value"]
NEW = ["new.csv", "--value-col", "value"]
LEARNER = ["--learner", "bayesian-linear", "--config", "fast.toml"]


def call(*arguments: object) -> Result:
    """Call the command line in this process."""
    return CliRunner().invoke(build(), [str(a) for a in arguments], prog_name="recmeta")


def recmeta(*arguments: object, code: int = 0) -> dict[str, Any]:
    """Call the command line in this process; return the object that it prints."""
    result = call(*arguments, "--json")
    assert result.exit_code == code, (arguments, result.output)
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def run(workspace: object, seed: int) -> dict[str, Any]:
    """Train a model, and make it the champion."""
    log = ["--dataset", "interactions.csv", *COLUMNS, "--seed", seed]
    return recmeta("run", "-w", workspace, *log, *LEARNER, "--no-rival", "--force")


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(command: Sequence[str], folder: Path) -> Iterator[str]:
    """Run an MLflow server on a free port; yield its address.

    Args:
        folder: where it runs.
    """
    port = free_port()
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
            cwd=folder,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                with urllib.request.urlopen(f"{address}/health", timeout=5):
                    break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
