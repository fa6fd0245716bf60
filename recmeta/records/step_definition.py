"""The definition of a step: its name, the type of its outputs, and the kinds of output that it
leaves in the workspace.

The outputs of a step are a frozen dataclass of its own, which its `Step` names. The fields are the
keys of `outputs` in the manifest's file. A field that has its default is left out of the file, and
a key that is no field is ignored, unless the dataclass has a field made by `spread`, which takes
them. So older and newer versions of a step read each other's manifests.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, Generic, Protocol, TypeVar

from recmeta.errors import Broken
from recmeta.workspace import Workspace, sealed
from recmeta.workspace.sealed import seal_digest

Outputs = TypeVar("Outputs")

SPREAD = "spread"


class StepOutput(Protocol):
    """A kind of output that a step leaves in the workspace, whose digests are in its manifest."""

    def digests(self, workspace: Workspace, outputs: Any) -> dict[str, Any]:
        """Return its digests, JSON-ready, by address in the workspace."""
        ...

    def losses(
        self, workspace: Workspace, outputs: Any, digests: Mapping[str, Any] | None, *, full: bool
    ) -> list[str]:
        """Return sentences about what is missing or has changed.

        Args:
            digests: the result of `digests` when the step was done, or None in an old manifest.
            full: whether to read everything, even what has not been touched.

        Raises:
            Broken: if something is lost that doing the step again cannot restore. The message says
                what can.
        """
        ...

    def remove(self, workspace: Workspace, outputs: Any) -> None:
        """Delete partial results, from which the step would otherwise continue when it is done
        again."""
        ...


class Folders:
    """Sealed folders (`recmeta.workspace.sealing`) that a step leaves."""

    def __init__(self, paths: Callable[[Any], Collection[str]]) -> None:
        """
        Args:
            paths: returns the folders' paths in the workspace, given the outputs.
        """
        self._paths = paths

    def digests(self, workspace: Workspace, outputs: Any) -> dict[str, Any]:
        """Return the digest of each folder's digests."""
        return {path: seal_digest(workspace / path) for path in self._paths(outputs)}

    def losses(
        self, workspace: Workspace, outputs: Any, digests: Mapping[str, Any] | None, *, full: bool
    ) -> list[str]:
        """Return sentences about files that are missing or have changed: see `Sealed.losses`."""
        found = []
        for path in self._paths(outputs):
            folder = workspace / path
            if not workspace.exists(path):
                found.append(f"{folder.path} is missing")
            elif digests is not None and seal_digest(folder) != digests.get(path):
                found.append(f"{folder.path} is not what was written")
            else:
                try:
                    found += sealed(folder).losses(full=full)
                except Broken:
                    found.append(f"{folder.path} is not what was written")
        return found

    def remove(self, workspace: Workspace, outputs: Any) -> None:
        """Delete the folders."""
        for path in self._paths(outputs):
            workspace.delete_folder(path)


class Step(str, Generic[Outputs]):
    """The name of a step, as on the command line, with the type of its outputs and the kinds of
    output that it leaves."""

    outputs: type[Outputs]
    is_long: bool
    leaves: tuple[StepOutput, ...]

    def __new__(
        cls,
        name: str,
        outputs: type[Outputs],
        *,
        is_long: bool = False,
        leaves: tuple[StepOutput, ...] = (),
    ) -> "Step[Outputs]":
        """Name a step.

        Args:
            outputs: a frozen dataclass, or `dict`: see `as_stored`.
            is_long: whether others may write to the workspace while the step works, because it
                writes only to places of its own. See `recmeta.workspace.writing`.
            leaves: the outputs that must exist for the step to count as done.
        """
        step = super().__new__(cls, name)
        step.outputs = outputs
        step.is_long = is_long
        step.leaves = leaves
        return step


def as_stored(name: str) -> Step[dict[str, Any]]:
    """Return a step by name alone. Its outputs are read as they are in the file, whatever version
    of the step wrote them, and whether or not they still exist."""
    return Step(name, dict)


def spread() -> Any:
    """Return the field of an outputs' dataclass whose entries are outputs themselves, by name,
    because only some runs of the step have them."""
    return dataclasses.field(default_factory=dict, metadata={SPREAD: True})
