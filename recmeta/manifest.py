"""The records of finished steps, so that no step is done twice and every result can be traced.

A step's *key* is the fingerprint of its configuration and of the versions of its inputs. Its
manifest is written last, atomically, with the digests of the step's outputs. It counts only while
the outputs exist and are unchanged (`run_once`, `latest`, `whole`); a manifest of an earlier
version, without digests, counts while its outputs exist.
"""

import contextlib
import contextvars
import dataclasses
import datetime
import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Generic

from recmeta.config import fingerprint, parse, to_dict
from recmeta.errors import Broken, UserError, did_you_mean, shown
from recmeta.errors.secrets import masked_values
from recmeta.records.provenance import git_commit, library_versions
from recmeta.records.step_definition import SPREAD, Outputs, Step
from recmeta.workspace import Workspace

log = logging.getLogger(__name__)

LATEST = "latest.json"
_OWN_DIGEST = "digest"
"""The key, in a manifest's file, of the fingerprint of the rest of the file."""
_REDO: contextvars.ContextVar[frozenset[str]] = contextvars.ContextVar("redo", default=frozenset())


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
    """The versions of the tables and artefacts that were read, by name."""
    outputs: Outputs
    """The outputs: versions of tables, paths of artefacts, values."""
    counts: dict[str, int]
    """The counts of the step, such as rows, tasks or users."""
    libraries: dict[str, str]
    git_commit: str | None
    finished_at: str
    seconds: float
    digests: dict[str, Any] | None = None
    """The digests of the outputs when the step was done, by address in the workspace. None in
    manifests of earlier versions."""
    reused: bool = False
    """Whether this call found the step already done. Not stored."""

    def summary(self) -> dict[str, Any]:
        """Return the part that a person or the next step needs, JSON-ready."""
        return {"step": self.step, "key": self.key, **self.counts, **plain(self.outputs)}


def plain(outputs: Any) -> dict[str, Any]:
    """Return outputs by name, JSON-ready, as a manifest's file has them."""
    if isinstance(outputs, dict):
        return outputs
    found: dict[str, Any] = {}
    for field in dataclasses.fields(outputs):
        value = getattr(outputs, field.name)
        if field.metadata.get(SPREAD):
            found |= value
        elif field.default is dataclasses.MISSING or value != field.default:
            if dataclasses.is_dataclass(value):
                value = to_dict(value)
            found[field.name] = list(value) if isinstance(value, tuple) else value
    return found


def find(workspace: Workspace, step: Step[Outputs], key: str) -> Manifest[Outputs] | None:
    """Return the manifest of a finished step, or None. It is only the record: `losses` tells
    whether the outputs still exist.

    A broken manifest counts as none, and so does one of an older version of the step that did not
    leave all of today's outputs: the step is done again.
    """
    folder = workspace / "manifests" / step
    if not folder.exists(f"{key}.json"):
        return None
    try:
        stored = folder.read_json(f"{key}.json")
        digest = stored.pop(_OWN_DIGEST, None)  # manifests of earlier versions have no digest
        if digest is not None and digest != _own_digest(stored):
            raise ValueError("it is not what was written")
        stored["outputs"] = _parsed(step.outputs, stored["outputs"])
        return Manifest(**stored, reused=True)
    except UserError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning(
            "the manifest %s/%s.json is broken, so that it does not count: %s",
            folder.path,
            key,
            shown(str(error)),  # which may quote whatever is in the file
        )
        return None


def losses(
    workspace: Workspace, step: Step[Outputs], manifest: Manifest[Outputs], *, full: bool = False
) -> list[str]:
    """Return sentences about outputs of a step that are missing or have changed. The list is empty
    if its manifest counts.

    Args:
        full: whether to read everything, even what has not been touched since it was last read.

    Raises:
        Broken: if something is lost that doing the step again cannot restore. The message says what
            can.
    """
    return [
        loss
        for left in step.leaves
        for loss in left.losses(workspace, manifest.outputs, manifest.digests, full=full)
    ]


def whole(workspace: Workspace, step: Step[Outputs], key: str) -> Manifest[Outputs] | None:
    """Return the manifest of a finished step whose outputs exist unchanged, or None if the step is
    to be done again.

    Raises:
        Broken: as `losses` does.
    """
    found = find(workspace, step, key)
    return None if found is None or losses(workspace, step, found) else found


def broken(workspace: Workspace, step: Step[Outputs]) -> list[str]:
    """Return sentences about the manifests of a step that cannot be read, and therefore do not
    count."""
    folder = workspace / "manifests" / step
    names = [name for name in folder.names() if name.endswith(".json") and name != LATEST]
    return [
        f"{folder.path}/{name} is not what was written"
        for name in names
        if find(workspace, step, name.removesuffix(".json")) is None
    ]


def finished(workspace: Workspace, step: Step[Outputs]) -> list[Manifest[Outputs]]:
    """Return the manifests of a step with any configuration and inputs, the newest last."""
    names = (workspace / "manifests" / step).names()
    keys = [name.removesuffix(".json") for name in names if name != LATEST]
    found = [find(workspace, step, key) for key in keys]
    return sorted((m for m in found if m is not None), key=lambda m: m.finished_at)


def latest(workspace: Workspace, step: Step[Outputs]) -> Manifest[Outputs]:
    """Return the manifest that the step last returned in this workspace.

    Raises:
        UserError: if the step has not finished here yet.
        Broken: if its outputs are missing or have changed.
    """
    key = latest_key(workspace, step)  # which is written after the manifest
    found = None if key is None else find(workspace, step, key)
    if found is None:
        raise UserError(
            f"{step} has not finished in the workspace {workspace.location}: run `recmeta {step}` "
            "(or `recmeta run`) there first."
        )
    lost = losses(workspace, step, found)
    if lost:
        raise Broken(
            f"what {step} left is not whole: {_some(lost)}. `recmeta {step}` (or `recmeta run`) "
            "makes it again."
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
    """Do a step unless its manifest says that it is done and its outputs exist unchanged.

    Args:
        config: JSON-ready; together with `inputs` it must determine the outputs.
        work: called with the key; returns (outputs, counts). It must leave the same outputs if it
            is called again after it was killed at any point, or after any of them was lost.

    Raises:
        Broken: if something is broken that doing the step again cannot restore.
        WorkspaceBusyError: if another command writes to the workspace for longer than the wait.
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
    if done is not None and _counts(workspace, step, done):
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
        digests=_digests(workspace, step, outputs),
    )
    _write(workspace, manifest)
    folder.write_json(LATEST, {"key": key})
    return manifest


@contextlib.contextmanager
def redoing(steps: Collection[str], known: Collection[str]) -> Iterator[None]:
    """Let the named steps be done again within the block, whatever their manifests say.

    Args:
        known: the steps that can be named there.

    Raises:
        UserError: for any other name.
    """
    for name in steps:
        if name not in known:
            raise UserError(
                f"--redo names {name!r}, which is not a step of this command."
                f"{did_you_mean(name, list(known))} There are: {', '.join(known)}."
            )
    token = _REDO.set(frozenset(steps))
    try:
        yield
    finally:
        _REDO.reset(token)


def is_redone(step: str) -> bool:
    """Return whether a step is to be done again, whatever its manifest says: see `redoing`."""
    return step in _REDO.get()


def rewriting(
    workspace: Workspace, step: Step[Outputs], key: str, digests: Mapping[str, Any]
) -> None:
    """Replace digests in the manifest of a step whose outputs are about to be rewritten on purpose,
    for example to remove users from them. Do nothing if there is no manifest, or an old one.

    Args:
        digests: the new digests, by address; others are kept.
    """
    found = find(workspace, step, key)
    if found is not None and found.digests is not None:
        _write(workspace, dataclasses.replace(found, digests={**found.digests, **digests}))


def _counts(workspace: Workspace, step: Step[Outputs], done: Manifest[Outputs]) -> bool:
    """Return whether a manifest counts, so that its step need not be done. If not, the manifest is
    deleted."""
    redo = is_redone(step)
    lost = [] if redo else losses(workspace, step, done)
    if not redo and not lost:
        return True
    if lost:
        log.warning("%s is done again: %s.", step, _some(lost))
    forget(workspace, step, done.key)
    if redo:
        for left in step.leaves:
            left.remove(workspace, done.outputs)
    return False


def _some(lost: list[str]) -> str:
    """Return the first of the losses, and the number of others."""
    more = f", and {len(lost) - 1} more" if len(lost) > 1 else ""
    return f"{lost[0]}{more}"


def _digests(workspace: Workspace, step: Step[Outputs], outputs: Outputs) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for left in step.leaves:
        found |= left.digests(workspace, outputs)
    return found


def _write(workspace: Workspace, manifest: Manifest[Any]) -> None:
    stored = masked_values({**vars(manifest), "outputs": plain(manifest.outputs)})
    del stored["reused"]
    stored[_OWN_DIGEST] = _own_digest(stored)
    (workspace / "manifests" / manifest.step).write_json(f"{manifest.key}.json", stored)


def _own_digest(stored: Mapping[str, Any]) -> str:
    """Return the fingerprint of a manifest's content as it is in the file."""
    return fingerprint(json.loads(json.dumps(stored)))


def latest_key(workspace: Workspace, step: str) -> str | None:
    """Return the key that the step last returned, or None if it is not known."""
    folder = workspace / "manifests" / step
    if not folder.exists(LATEST):
        return None
    try:
        return str(folder.read_json(LATEST)["key"])
    except (ValueError, KeyError, TypeError):  # it is broken, and the step will write it again
        return None


def forget(workspace: Workspace, step: str, key: str) -> None:
    """Delete a step's manifest, so that the step is done again when it is next run.

    Call it before the outputs are deleted: while a manifest exists, the outputs are whole.
    """
    folder = workspace / "manifests" / step
    if latest_key(workspace, step) == key:
        folder.filesystem.delete_file(f"{folder.path}/{LATEST}")
    if folder.exists(f"{key}.json"):
        folder.filesystem.delete_file(f"{folder.path}/{key}.json")


def _parsed(cls: type[Outputs], stored: dict[str, Any]) -> Outputs:
    """Return the outputs in a manifest's file.

    Raises:
        UserError: if one of them is missing.
    """
    if cls is dict:
        return stored  # type: ignore[return-value]  # the type is the caller's
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {n: v for n, v in stored.items() if n in fields}
    for name, field in fields.items():
        if field.metadata.get(SPREAD):
            values[name] = {n: v for n, v in stored.items() if n not in fields}
    found: Outputs = parse(cls, values)  # type: ignore[type-var]
    return found
