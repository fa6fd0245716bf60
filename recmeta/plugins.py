"""Implementations by name: those in a folder of this package, and those that others install.

A name is found, in this order,

    in a folder     one file each, named as the implementation is, with `_` for `-`
    by entry point  of an installed distribution, in a group such as `recmeta.learners`
    as a path       `package.module:Object`, of anything that can be imported

so that adding one touches its file, and one from outside needs no change here. Names are listed
without importing anything; an implementation is imported when it is first asked for.
"""

import functools
import importlib
import importlib.metadata
import importlib.util
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from recmeta.errors import UserError, did_you_mean

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A mapping from the names of one kind of implementation to what implements them."""

    def __init__(self, kind: str, *, package: str, attribute: str) -> None:
        """Describe where the implementations are.

        Args:
            kind: what they are, in the singular, for messages; with an `s` it names the entry
                points' group: `recmeta.<kind>s`.
            package: full name of the folder with a file for each. Folders within it group them.
            attribute: what a file calls its implementation.
        """
        self.kind = kind
        self.group = f"recmeta.{kind}s"
        self._package = package
        self._attribute = attribute

    def __getitem__(self, name: str) -> T:
        """Return an implementation, imported.

        Raises:
            UserError: for a name or path that leads nowhere, or whose import fails.
        """
        found: T = self._load(name)
        return found

    def __iter__(self) -> Iterator[str]:
        """Yield the known names in alphabetical order: the package's own, then others'."""
        yield from self._own
        yield from (name for name in self._installed if name not in self._own)

    def __len__(self) -> int:
        """Return the number of known names."""
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        """Return whether a name is known; a path to an object always is, and may lead nowhere."""
        return isinstance(name, str) and (
            name in self._own or name in self._installed or ":" in name
        )

    def module_of(self, name: str) -> str:
        """Return the full name of the module that an implementation is in.

        Raises:
            UserError: for an unknown name.
        """
        if name in self._own:
            return self._own[name]
        if ":" in name:
            return name.partition(":")[0]
        if name in self._installed:
            return self._installed[name].module
        raise self._unknown(name)

    def distribution_of(self, name: str) -> str | None:
        """Return the installed distribution that an implementation from outside is in, such as
        `recmeta-example 0.1`; None for one of this package, and for one that is in no
        distribution."""
        if name in self._own:
            return None
        if name in self._installed:
            found = self._installed[name].dist
            return None if found is None else f"{found.name} {found.version}"
        top = self.module_of(name).partition(".")[0]
        holding = importlib.metadata.packages_distributions().get(top, [])
        if not holding or top == __package__:
            return None
        return f"{holding[0]} {importlib.metadata.version(holding[0])}"

    @functools.cached_property
    def _own(self) -> dict[str, str]:
        """Modules by name."""
        spec = importlib.util.find_spec(self._package)
        assert spec is not None, self._package
        assert spec.submodule_search_locations is not None, self._package
        found = dict(_modules(self._package, list(spec.submodule_search_locations)))
        return dict(sorted(found.items()))

    @functools.cached_property
    def _installed(self) -> dict[str, importlib.metadata.EntryPoint]:
        found = importlib.metadata.entry_points(group=self.group)
        return {point.name: point for point in sorted(found, key=lambda point: point.name)}

    def _load(self, name: str) -> Any:
        if name in self._own:
            return getattr(importlib.import_module(self._own[name]), self._attribute)
        if name in self._installed:
            module, _, path = self._installed[name].value.partition(":")
        elif ":" in name:
            module, _, path = name.partition(":")
        else:
            raise self._unknown(name)
        try:
            found: Any = importlib.import_module(module)
            for part in path.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(
                f"the {self.kind} {name!r} cannot be imported: {error}. It must be a name or "
                "`package.module:Object`, and its package must be installed."
            ) from error
        return found

    def _unknown(self, name: str) -> UserError:
        known = list(self)
        return UserError(
            f"there is no {self.kind} {name!r}.{did_you_mean(name, known)} There are: "
            f"{', '.join(known)}. One of your own is named `package.module:Object`, or is "
            f"installed with an entry point in the group {self.group!r}."
        )


def _modules(package: str, folders: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the names and modules in the folders of a package and in the packages below it."""
    for found in pkgutil.iter_modules(folders):
        full = f"{package}.{found.name}"
        if not found.ispkg:
            yield found.name.replace("_", "-"), full
        else:
            yield from _modules(full, [f"{folder}/{found.name}" for folder in folders])
