"""The command line in this process, as tests of faults call it."""

import json
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
