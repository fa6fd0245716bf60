"""What a step did, kept so that a finished step is never done twice and any result can be traced.

A step's *key* is the fingerprint of its configuration and of the versions of what it reads. Its
manifest is written last, atomically: where it stands, the step's outputs are whole.
"""

import dataclasses
import datetime
import importlib.metadata
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recmeta.config import fingerprint
from recmeta.errors import UserError
from recmeta.workspace import Workspace

LATEST = "latest.json"
LIBRARIES = ("recmeta", "torch", "numpy", "pyarrow", "polars", "deltalake", "mlflow")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The record of one finished step."""

    step: str
    """The step's name, as on the command line."""
    key: str
    """The fingerprint of `config` and `inputs`."""
    config: dict[str, Any]
    """The step's whole configuration, seed included."""
    inputs: dict[str, Any]
    """What was read: table or artefact name to version."""
    outputs: dict[str, Any]
    """What was written: table or artefact name to version, path or value."""
    counts: dict[str, int]
    """Rows, tasks, users: whatever the step counts."""
    libraries: dict[str, str]
    git_commit: str | None
    finished_at: str
    seconds: float
    reused: bool = False
    """True where this call found the step already done. Not stored."""

    def summary(self) -> dict[str, Any]:
        """Return the part that a person or the next step wants, JSON-ready."""
        return {"step": self.step, "key": self.key, **self.counts, **self.outputs}


def find(workspace: Workspace, step: str, key: str) -> Manifest | None:
    """Return the manifest of a finished step, or None."""
    folder = workspace / "manifests" / step
    if not folder.exists(f"{key}.json"):
        return None
    return Manifest(**folder.read_json(f"{key}.json"), reused=True)


def finished(workspace: Workspace, step: str) -> list[Manifest]:
    """Return the manifests of a step, of all its configurations and inputs, the newest last."""
    names = (workspace / "manifests" / step).names()
    keys = [name.removesuffix(".json") for name in names if name != LATEST]
    found = [find(workspace, step, key) for key in keys]
    return sorted((m for m in found if m is not None), key=lambda m: m.finished_at)


def latest(workspace: Workspace, step: str) -> Manifest:
    """Return the manifest that the step last returned in this workspace.

    Raises:
        UserError: when the step has not finished here yet.
    """
    folder = workspace / "manifests" / step
    if not folder.exists(LATEST):
        raise UserError(
            f"{step} has not finished in the workspace {workspace.location}: run `recmeta {step}` "
            "(or `recmeta run`) there first."
        )
    found = find(workspace, step, folder.read_json(LATEST)["key"])
    assert found is not None, "the pointer is written after the manifest"
    return found


def run_once(
    workspace: Workspace,
    step: str,
    *,
    config: dict[str, Any],
    inputs: dict[str, Any],
    work: Callable[[str], tuple[dict[str, Any], dict[str, int]]],
) -> Manifest:
    """Do a step unless its manifest says that it is done.

    Args:
        config: JSON-ready; with `inputs` it must determine the outputs.
        work: called with the key; returns (outputs, counts). It must leave the same outputs when it
            is called again after having been killed at any point.
    """
    key = fingerprint(step, config, inputs)
    folder = workspace / "manifests" / step
    done = find(workspace, step, key)
    if done is not None:
        folder.write_json(LATEST, {"key": key})
        return done
    started = datetime.datetime.now(datetime.UTC)
    outputs, counts = work(key)
    finished = datetime.datetime.now(datetime.UTC)
    manifest = Manifest(
        step=step,
        key=key,
        config=config,
        inputs=inputs,
        outputs=outputs,
        counts=counts,
        libraries=library_versions(),
        git_commit=git_commit(),
        finished_at=finished.isoformat(),
        seconds=round((finished - started).total_seconds(), 3),
    )
    stored = dataclasses.asdict(manifest)
    del stored["reused"]
    folder.write_json(f"{key}.json", stored)
    folder.write_json(LATEST, {"key": key})
    return manifest


def forget(workspace: Workspace, step: str, key: str) -> None:
    """Delete a step's manifest, so that the step is done anew if it is asked for again.

    Call it before the outputs are deleted: where a manifest stands, the outputs are whole.
    """
    folder = workspace / "manifests" / step
    if folder.exists(LATEST) and folder.read_json(LATEST)["key"] == key:
        folder.filesystem.delete_file(f"{folder.path}/{LATEST}")
    if folder.exists(f"{key}.json"):
        folder.filesystem.delete_file(f"{folder.path}/{key}.json")


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of those of our libraries that are installed."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def git_commit() -> str | None:
    """Return the commit of the checkout that recmeta runs from, or None outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
