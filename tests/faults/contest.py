"""Commands that write to one workspace at the same time, each in a process of its own, and what
they leave."""

import contextlib
import dataclasses
import multiprocessing
import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import forked_command
import numpy as np
import psutil
import pytest
from object_store import BUCKET, CREDENTIALS

from recmeta.registry import artifacts
from recmeta.registry.tracking import DATABASE, tracking_uri

SERVER = multiprocessing.get_context("forkserver")
"""Forks the processes of commands from one that has imported what they need, and done nothing else:
importing it anew took each command longer than its work."""
SERVER.set_forkserver_preload(forked_command.IMPORTED)
COLUMNS = ["--user-col", "uid", "--item-col", "sku", "--time-col", "ts", "--value-col", "stars"]
LOG = [*COLUMNS, "--scale", "1:5"]
NOT_COPIED = (".tmp", ".locks")
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
    """Return the arguments of each command by name."""
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
        "maintenance": ["maintain", "--min-files", "2"],
    }


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a workspace is, and what the environment of its commands says."""

    location: str
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Running:
    """A command in a process of its own, which works as one that a terminal started does."""

    def __init__(self, arguments: Sequence[str], place: Place, at: float = 0.0) -> None:
        """Start the process.

        Args:
            at: when the command begins, as a `time.time()`; at once if that is past.
        """
        self._printed = tempfile.NamedTemporaryFile()  # noqa: SIM115  # closed by `end`
        self._name = arguments[0]
        command = (arguments, place.location, dict(place.environment), self._printed.name, at)
        self.process = SERVER.Process(target=forked_command.perform, args=command, daemon=False)
        self.process.start()

    def end(self, seconds: float = 600) -> str:
        """Return what went wrong, once the command has ended; empty where nothing did."""
        self.process.join(seconds)
        code = self.process.exitcode
        if code is None:
            self.kill()
            return f"{self._name} does not end within {seconds} s"
        with self._printed:
            return f"{self._name}: exit {code}\n{self._printed.read().decode()}" if code else ""

    def kill(self) -> None:
        """Kill the process, as `kill -9` does, and wait for the end of the one that it watches,
        which Linux kills with it, but not before it is that one's turn."""
        assert self.process.pid is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            watched = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            assert not psutil.wait_procs(watched, timeout=60)[1]
        self.process.join()
        self._printed.close()


def prepare(folder: Path, place: Place, *, with_models: bool) -> None:
    """Make a workspace with a log, and with two versions of the model, the second one champion."""
    if not with_models:
        first = [a.replace("1.csv", "0.csv") for a in commands(folder)["ingest"]]
        assert not in_turn([first], place)
        return
    run = commands(folder)["run"]
    run = [a.replace("/1.csv", "/0.csv").replace("items-1", "items-0") for a in run]
    assert not in_turn([[*run, "--seed", seed] for seed in ("0", "1")], place)


def in_turn(several: Sequence[Sequence[str]], place: Place) -> list[str]:
    """Do commands one after the other, and return what went wrong."""
    failed = [Running(arguments, place).end() for arguments in several]
    return [text for text in failed if text]


def at_once(several: Sequence[Sequence[str]], place: Place, seed: int, seconds: float) -> list[str]:
    """Do commands at the same time, and return what went wrong.

    Args:
        seconds: how long one of them takes at most.
    """
    drawn = random.Random(seed)
    now = time.time() + 0.2  # once both processes are there
    # Together, or one while the other is somewhere in its middle.
    begin = [now, now + drawn.choice((0.0, drawn.uniform(0, seconds)))]
    drawn.shuffle(begin)
    running = [Running(one, place, at) for one, at in zip(several, begin, strict=True)]
    return [text for text in [one.end() for one in running] if text]


def state(place: Place) -> dict[str, Any]:
    """Return what a workspace holds, without clocks: rows of every table, and aliases."""
    import polars as pl

    from recmeta.logs import tables
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
        database = artifacts.database_path(tracking_uri(workspace))
    assert database is not None
    if database.exists():  # read without MLflow, which remembers what it has opened
        with contextlib.closing(sqlite3.connect(database)) as connection:
            for name, columns in (("model_versions", "version"), ("registered_model_aliases", "*")):
                found[name] = sorted(connection.execute(f"SELECT {columns} FROM {name}"))
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
    shutil.copytree(base, to, ignore=shutil.ignore_patterns(*NOT_COPIED))
    return Place(str(to))


def copied_in_bucket(base: Path, address: str, store: Path) -> Place:
    """Return a copy on an S3 server, where nothing else is left, of a workspace on a local disk.

    Args:
        store: a folder for its MLflow store, which cannot be in a bucket; its content is deleted.
    """
    import boto3

    urlopen(f"{address}/moto-api/reset", data=b"").close()
    client = boto3.client("s3", endpoint_url=address)
    client.create_bucket(Bucket=BUCKET)
    shutil.rmtree(store, ignore_errors=True)
    store.mkdir()
    for path in base.iterdir():
        if path.name in (DATABASE, artifacts.FOLDER):
            (shutil.copytree if path.is_dir() else shutil.copy)(path, store / path.name)
        elif path.name not in NOT_COPIED:
            for file in path.rglob("*") if path.is_dir() else [path]:
                if file.is_file():
                    key = f"ws/{file.relative_to(base)}"
                    client.put_object(Bucket=BUCKET, Key=key, Body=file.read_bytes())
    environment = {
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": address,
        "AWS_ALLOW_HTTP": "true",
        "MLFLOW_TRACKING_URI": f"sqlite:///{store / DATABASE}",
    }
    return Place(f"s3://{BUCKET}/ws", environment)
