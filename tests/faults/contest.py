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
PATHS = [str(path) for path in (HERE, HERE.parent / "cli", HERE.parent, HERE.parents[1])]
# The server that forks takes modules from where the environment says, not from our sys.path.
os.environ["PYTHONPATH"] = os.pathsep.join([*PATHS, os.environ.get("PYTHONPATH", "")])
sys.path[:0] = PATHS
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["contest_imports"])
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
num_resamples = 50
"""


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


def prepare(folder: Path, place: Place, *, with_models: bool) -> None:
    """Make a workspace with a log, and with two versions of the model, the second one champion."""
    os.environ.update(place.environment)
    if not with_models:
        first = [a.replace("1.csv", "0.csv") for a in commands(folder)["ingest"]]
        perform(first, place.location, None, 0.0)
        return
    run = commands(folder)["run"]
    run = [a.replace("/1.csv", "/0.csv").replace("items-1", "items-0") for a in run]
    for seed in ("0", "1"):
        perform([*run, "--seed", seed], place.location, None, 0.0)


def perform(arguments: Sequence[str], location: str, barrier: Any, pause: float) -> None:
    """Do a command in this process, once all who compete are there. Raises where it fails."""
    from cli_calls import call

    from recmeta.steps.upkeep import maintenance
    from recmeta.workspace import Workspace

    os.environ["RECMETA_WORKSPACE"] = location
    if barrier is not None:
        barrier.wait()
        time.sleep(pause)
    if not arguments:
        workspace = Workspace(location, wait=600)
        maintenance.expire(workspace)
        maintenance.optimise(workspace, min_files=2)
        maintenance.vacuum(workspace)
        return
    called = call(*arguments, *WAIT)
    assert called.code == 0, f"{arguments[0]}: exit {called.code}\n{called.stdout}{called.stderr}"


def at_once(
    several: Sequence[Sequence[str]], place: Place, seed: int | None, errors: Path
) -> list[str]:
    """Do commands at the same time, or one after the other where `seed` is None.

    Returns:
        What went wrong.
    """
    barrier = None if seed is None else CONTEXT.Barrier(len(several))
    drawn = random.Random(seed)
    processes = []
    for number, arguments in enumerate(several):
        pause = 0.0 if seed is None else drawn.choice((0.0, drawn.uniform(0, 1.0)))
        report = errors / str(number)
        report.unlink(missing_ok=True)
        process = CONTEXT.Process(target=_reported, args=(report, place, arguments, barrier, pause))
        process.start()
        processes.append(process)
        if seed is None:
            process.join()
    failed = []
    for number, process in enumerate(processes):
        process.join(600)
        if process.is_alive():
            process.kill()
        if process.exitcode:
            report = errors / str(number)
            failed.append(report.read_text() if report.exists() else f"{process.exitcode}")
    return failed


def start(arguments: Sequence[str], place: Place, report: Path) -> Any:
    """Start a command in a process of its own, and return the process."""
    process = CONTEXT.Process(target=_reported, args=(report, place, arguments, None, 0.0))
    process.start()
    return process


def _reported(
    report: Path, place: Place, arguments: Sequence[str], barrier: Any, pause: float
) -> None:
    os.environ.update(place.environment)
    tempfile.tempdir = None  # so that TMPDIR is looked at again
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            perform(arguments, place.location, barrier, pause)
        except BaseException as error:
            report.write_text(f"{type(error).__name__}: {error}")
            os._exit(1)


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
