"""What a step did, kept so that a finished step is never done twice and any result can be traced.

A step's *key* is the fingerprint of its configuration and of the versions of what it reads. Its
manifest is written last, atomically: where it stands, the step's outputs are whole.

What a step leaves is a frozen dataclass of its own, which its `Step` names. The fields are the keys
of `outputs` in the manifest's file. A field that has its default is left out of the file, and a key
that is no field is ignored, unless the dataclass has a field made by `spread`, which takes them. So
older and newer versions of a step read each other's manifests.
"""

import dataclasses
import datetime
import importlib.metadata
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from recmeta.config import fingerprint, parse
from recmeta.errors import UserError
from recmeta.workspace import Workspace

Outputs = TypeVar("Outputs")

LATEST = "latest.json"
LIBRARIES = ("recmeta", "torch", "numpy", "pyarrow", "polars", "deltalake", "mlflow")
_SPREAD = "spread"


class Step(str, Generic[Outputs]):
    """The name of a step, as on the command line, and the type of what it leaves."""

    outputs: type[Outputs]
    is_long: bool

    def __new__(
        cls, name: str, outputs: type[Outputs], *, is_long: bool = False
    ) -> "Step[Outputs]":
        """Name a step.

        Args:
            outputs: a frozen dataclass, or `dict`: see `as_stored`.
            is_long: whether others may write to the workspace while the step works: what it writes
                is its own. See `recmeta.workspace.writing`.
        """
        step = super().__new__(cls, name)
        step.outputs = outputs
        step.is_long = is_long
        return step


def as_stored(name: str) -> Step[dict[str, Any]]:
    """Return a step by name alone, whose outputs are taken as they are in the file, whatever
    version of the step wrote them."""
    return Step(name, dict)


def spread() -> Any:
    """Return the field of an outputs' dataclass whose entries are outputs themselves: those that
    only some runs of the step have, by name."""
    return dataclasses.field(default_factory=dict, metadata={_SPREAD: True})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest(Generic[Outputs]):
    """The record of one finished step."""

    step: str
    """The step's name, as on the command line."""
    key: str
    """The fingerprint of `config` and `inputs`."""
    config: dict[str, Any]
    """The step's whole configuration, seed included."""
    inputs: dict[str, Any]
    """What was read: table or artefact name to version."""
    outputs: Outputs
    """What was written: versions of tables, paths of artefacts, values."""
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
        return {"step": self.step, "key": self.key, **self.counts, **plain(self.outputs)}


def plain(outputs: Any) -> dict[str, Any]:
    """Return outputs by name, JSON-ready, as a manifest's file has them."""
    if isinstance(outputs, dict):
        return outputs
    found: dict[str, Any] = {}
    for field in dataclasses.fields(outputs):
        value = getattr(outputs, field.name)
        if field.metadata.get(_SPREAD):
            found |= value
        elif field.default is dataclasses.MISSING or value != field.default:
            found[field.name] = list(value) if isinstance(value, tuple) else value
    return found


def find(workspace: Workspace, step: Step[Outputs], key: str) -> Manifest[Outputs] | None:
    """Return the manifest of a finished step, or None.

    One of an older version of the step that did not leave all of today's outputs is none: the step
    is done anew.
    """
    folder = workspace / "manifests" / step
    if not folder.exists(f"{key}.json"):
        return None
    stored = folder.read_json(f"{key}.json")
    try:
        stored["outputs"] = _parsed(step.outputs, stored["outputs"])
    except UserError:
        return None
    return Manifest(**stored, reused=True)


def finished(workspace: Workspace, step: Step[Outputs]) -> list[Manifest[Outputs]]:
    """Return the manifests of a step, of all its configurations and inputs, the newest last."""
    names = (workspace / "manifests" / step).names()
    keys = [name.removesuffix(".json") for name in names if name != LATEST]
    found = [find(workspace, step, key) for key in keys]
    return sorted((m for m in found if m is not None), key=lambda m: m.finished_at)


def latest(workspace: Workspace, step: Step[Outputs]) -> Manifest[Outputs]:
    """Return the manifest that the step last returned in this workspace.

    Raises:
        UserError: when the step has not finished here yet.
    """
    folder = workspace / "manifests" / step
    found = None
    if folder.exists(LATEST):  # which is written after the manifest
        found = find(workspace, step, folder.read_json(LATEST)["key"])
    if found is None:
        raise UserError(
            f"{step} has not finished in the workspace {workspace.location}: run `recmeta {step}` "
            "(or `recmeta run`) there first."
        )
    return found


def run_once(
    workspace: Workspace,
    step: Step[Outputs],
    *,
    config: dict[str, Any],
    inputs: dict[str, Any],
    work: Callable[[str], tuple[Outputs, dict[str, int]]],
) -> Manifest[Outputs]:
    """Do a step unless its manifest says that it is done.

    Args:
        config: JSON-ready; with `inputs` it must determine the outputs.
        work: called with the key; returns (outputs, counts). It must leave the same outputs when it
            is called again after having been killed at any point.

    Raises:
        WorkspaceBusyError: where another command writes to the workspace for longer than is waited.
    """
    key = fingerprint(step, config, inputs)
    with workspace.working_on(f"{step}-{key}") if step.is_long else workspace.writing():
        return _run_once(workspace, step, key, config, inputs, work)


def _run_once(
    workspace: Workspace,
    step: Step[Outputs],
    key: str,
    config: dict[str, Any],
    inputs: dict[str, Any],
    work: Callable[[str], tuple[Outputs, dict[str, int]]],
) -> Manifest[Outputs]:
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
    stored = {**vars(manifest), "outputs": plain(outputs)}
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


def _parsed(cls: type[Outputs], stored: dict[str, Any]) -> Outputs:
    """Return the outputs in a manifest's file.

    Raises:
        UserError: where one of them is missing.
    """
    if cls is dict:
        return stored  # type: ignore[return-value]  # they are what the caller asked for
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {n: v for n, v in stored.items() if n in fields}
    for name, field in fields.items():
        if field.metadata.get(_SPREAD):
            values[name] = {n: v for n, v in stored.items() if n not in fields}
    found: Outputs = parse(cls, values)  # type: ignore[type-var]
    return found


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
