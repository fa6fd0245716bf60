"""Commands that write to one workspace at the same time, each in a process of its own, and what
they leave."""

import contextlib
import dataclasses
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from object_store import BUCKET, CREDENTIALS

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "cli"))
CONTEXT = multiprocessing.get_context("spawn")
WAIT = ["--wait", "600", "--json"]
COLUMNS = ["--user-col", "uid", "--item-col", "sku", "--time-col", "ts", "--value-col", "stars"]
LOG = [*COLUMNS, "--scale", "1:5"]
FORGOTTEN = "u3"
CONFIG = """
[train.training]
epochs = 1
[evaluate]
baselines = ["item-mean"]
[evaluate.evaluation]
num_resamples = 20
num_negatives = 5
shots = [0, 2]
ks = [5]
list_curve_users = 5
"""
"""As little of what only computes as there may be: what competes is writing."""


def write_logs(folder: Path) -> None:
    """Write three logs that overlap, `0.csv` to `2.csv`, with items of their own, and new users."""
    drawn = np.random.default_rng(0)
    rows: dict[tuple[int, int], str] = {}
    for user in range(50):
        for item in drawn.permutation(24)[: drawn.integers(6, 16)].tolist():
            stars = 1 + (user * item + item) % 5
            rows[user, item] = f"u{user},i{item},{1_700_000_000 + 977 * user + 31 * item},{stars}"
    everything = list(rows.values())
    others = [f"n{u},i{u % 24},{1_700_100_000 + u},{1 + u % 5}" for u in range(90)]
    parts = {
        "0": everything,
        "1": [*everything[::3], *others],
        "2": [*everything[::2], *others[:60]],
    }
    for name, lines in parts.items():
        (folder / f"{name}.csv").write_text("\n".join(["uid,sku,ts,stars", *lines]) + "\n")
        items = [f"i{i},{name} {i}" for i in range(24)] + [f"only-{name},It"]
        (folder / f"items-{name}.csv").write_text("\n".join([f"sku,name{name}", *items]) + "\n")
    new = [f"x{u},i{i},{1_700_200_000 + i},{1 + (u + i) % 5}" for u in range(5) for i in range(3)]
    (folder / "new.csv").write_text("\n".join(["uid,sku,ts,stars", *new]) + "\n")
    (folder / "fast.toml").write_text(CONFIG)


def commands(folder: Path) -> dict[str, list[str]]:
    """Return the arguments of each command by name; `maintenance` has none."""
    run = ["--learner", "bayesian-linear", "--no-rival", "--force", "--device", "cpu"]
    return {
        "ingest": ["ingest", f"{folder}/1.csv", *LOG, "--items", f"{folder}/items-1.csv"],
        "ingest another": ["ingest", f"{folder}/2.csv", *LOG, "--items", f"{folder}/items-2.csv"],
        "build-tasks": ["build-tasks"],
        "run": [
            *("run", "--dataset", f"{folder}/1.csv", *LOG, "--items", f"{folder}/items-1.csv"),
            *("--config", f"{folder}/fast.toml", *run),
        ],
        "score": ["score", f"{folder}/new.csv", *COLUMNS, "--device", "cpu"],
        "forget": ["forget", FORGOTTEN],
        "rollback": ["rollback"],
        "maintenance": [],
    }


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a workspace is, and what the environment of its commands says."""

    location: str
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Worker:
    """A process that does commands, one after the other, as a terminal would.

    It imports all that commands need once, so that what competes is the commands.
    """

    def __init__(self) -> None:
        self._pipe, other = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=_serve, args=(other,), daemon=True)
        self.process.start()
        other.close()

    def wait_until_ready(self) -> None:
        """Return when everything is imported."""
        assert self._pipe.recv() == "ready"

    def begin(self, arguments: Sequence[str], place: Place, at: float) -> None:
        """Have a command begin at a time of `time.time()`."""
        self._pipe.send((list(arguments), place, at))

    def end(self, seconds: float = 600) -> str:
        """Return what went wrong, once the command has ended; empty where nothing did."""
        assert self._pipe.poll(seconds), f"a command does not end within {seconds} s"
        return str(self._pipe.recv())

    def stop(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.join()


def prepare(worker: Worker, folder: Path, place: Place, *, with_models: bool) -> None:
    """Make a workspace with a log, and with two versions of the model, the second one champion."""
    if not with_models:
        first = [a.replace("1.csv", "0.csv") for a in commands(folder)["ingest"]]
        assert not in_turn(worker, [first], place)
        return
    run = commands(folder)["run"]
    run = [a.replace("/1.csv", "/0.csv").replace("items-1", "items-0") for a in run]
    several = [[*run, "--seed", seed] for seed in ("0", "1")]
    assert not in_turn(worker, several, place)


def in_turn(worker: Worker, several: Sequence[Sequence[str]], place: Place) -> list[str]:
    """Do commands one after the other, and return what went wrong."""
    failed = []
    for arguments in several:
        worker.begin(arguments, place, 0.0)
        failed.append(worker.end())
    return [text for text in failed if text]


def at_once(
    workers: Sequence[Worker], several: Sequence[Sequence[str]], place: Place, seed: int
) -> list[str]:
    """Do commands at the same time, and return what went wrong."""
    drawn = random.Random(seed)
    now = time.time() + 0.02
    for worker, arguments in zip(workers, several, strict=True):
        # Together, or one while the other is somewhere in its middle.
        worker.begin(arguments, place, now + drawn.choice((0.0, drawn.uniform(0, 1.0))))
    failed = [worker.end() for worker in workers]
    return [text for text in failed if text]


def _serve(pipe: Any) -> None:
    import cli_calls  # noqa: F401
    import mlflow.pyfunc  # noqa: F401
    import torch

    import recmeta.pipeline
    import recmeta.steps.upkeep.forget
    import recmeta.steps.upkeep.maintenance  # noqa: F401
    from recmeta.reporting import plots

    torch.set_num_threads(1)
    plots.DOTS_PER_INCH = 20  # drawing was a quarter of the command `run`
    before = dict(os.environ)
    pipe.send("ready")
    while True:
        arguments, place, at = pipe.recv()
        os.environ.clear()
        os.environ.update(before, RECMETA_WORKSPACE=place.location, **place.environment)
        tempfile.tempdir = None  # so that TMPDIR is looked at again
        time.sleep(max(0.0, at - time.time()))
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            try:
                _perform(arguments, place)
            except BaseException as error:
                pipe.send(f"{type(error).__name__}: {error}")
            else:
                pipe.send("")


def _perform(arguments: Sequence[str], place: Place) -> None:
    """Do a command in this process. Raises where it fails."""
    from cli_calls import call

    from recmeta.steps.upkeep import maintenance
    from recmeta.workspace import Workspace

    if not arguments:
        workspace = Workspace(place.location, wait=600)
        maintenance.expire(workspace)
        maintenance.optimise(workspace, min_files=2)
        maintenance.vacuum(workspace)
        return
    called = call(*arguments, *WAIT)
    assert called.code == 0, f"{arguments[0]}: exit {called.code}\n{called.stdout}{called.stderr}"


def state(place: Place) -> dict[str, Any]:
    """Return what a workspace holds, without clocks: rows of every table, and aliases."""
    import polars as pl

    from recmeta.logs import tables
    from recmeta.registry.models import versions
    from recmeta.schema import INGESTED_AT, SCORED_AT, TABLES
    from recmeta.workspace import Workspace

    found: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in place.environment.items():
            patch.setenv(name, value)
        workspace = Workspace(place.location)
        for table in TABLES:
            if tables.is_there(workspace, table):
                frame = pl.read_delta(tables.opened(workspace, table))
                frame = frame.drop(INGESTED_AT, SCORED_AT, strict=False)
                frame = frame.select(sorted(frame.columns))
                found[table.name] = sorted(map(str, frame.rows()))
        found["aliases"] = {v.version: v.aliases for v in versions.versions(workspace)}
    return found


def running_runs(place: Place) -> list[str]:
    """Return the names of MLflow's runs that are said to be under way."""
    from recmeta.registry.tracking import connect, has_store
    from recmeta.workspace import Workspace

    workspace = Workspace(place.location)
    if not has_store(workspace):
        return []
    client = connect(workspace)
    experiments = [found.experiment_id for found in client.search_experiments()]
    found = client.search_runs(experiments, "attributes.status = 'RUNNING'")
    return [run.info.run_name for run in found]


def differences(found: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """Return in which parts a state differs from each of others; empty where it is one of them."""
    told = []
    for other in others:
        parts = [n for n in {*found, *other} if found.get(n) != other.get(n)]
        if not parts:
            return ""
        told.append(", ".join(sorted(parts)))
    return " and from the other order in ".join(told)


def copied_on_disk(base: Path, to: Path) -> Place:
    """Return a copy of a workspace on a local disk."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(base, to, ignore=shutil.ignore_patterns(".tmp", ".locks"))
    return Place(str(to))


def in_bucket(address: str, store: Path, prefix: str) -> Place:
    """Return the place of a workspace on an S3 server, with its MLflow store in a local folder."""
    environment = {
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": address,
        "AWS_ALLOW_HTTP": "true",
        "MLFLOW_TRACKING_URI": f"sqlite:///{store / prefix / 'mlflow.db'}",
    }
    return Place(f"s3://{BUCKET}/{prefix}", environment)


def copied_in_bucket(address: str, store: Path, base: str, to: str) -> Place:
    """Return a copy of a workspace on an S3 server."""
    import boto3

    client = boto3.client("s3", endpoint_url=address)
    for prefix, copy in ((to, False), (base, True)):
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
        for key in [found["Key"] for page in pages for found in page.get("Contents", [])]:
            if copy:
                source = {"Bucket": BUCKET, "Key": key}
                target = to + key.removeprefix(base)
                client.copy_object(Bucket=BUCKET, Key=target, CopySource=source)
            else:
                client.delete_object(Bucket=BUCKET, Key=key)
    shutil.rmtree(store / to, ignore_errors=True)
    if (store / base).exists():
        shutil.copytree(store / base, store / to)
    return in_bucket(address, store, to)
