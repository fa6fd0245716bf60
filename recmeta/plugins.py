"""Implementations by name: those in a folder of this package, and those that others install.

A name is found, in this order,

    in a folder     one file each, named as the implementation is, with `_` for `-`
    by entry point  of an installed distribution, in a group such as `recmeta.learners`
    as a path       `package.module:Object`, of anything that can be imported

so that adding one touches its file, and one from outside needs no change here. Names are listed
without importing anything; an implementation is imported when it is first asked for.

Importing a module runs its code. Who names a path in a configuration, an option or a program asks
for that. Who loads a model, or repeats a recorded run, does not: while `only_trusted` holds, a path
that stands there is followed into modules that this process has imported already, and into those
that the environment variable `RECMETA_TRUSTED_PLUGINS` names, and nowhere else. What is installed
with an entry point is trusted, as every installed package is.
"""

import contextlib
import contextvars
import functools
import importlib
import importlib.metadata
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from recmeta.errors import UserError, did_you_mean

T = TypeVar("T")

TRUSTED = "RECMETA_TRUSTED_PLUGINS"
"""Modules and packages, separated by commas, that saved models may name by their path."""
_only_trusted = contextvars.ContextVar("_only_trusted", default=False)


@contextlib.contextmanager
def only_trusted() -> Iterator[None]:
    """Read names in the block that come from a saved model or a record, not from the caller: they
    make nothing be imported that is neither installed under its name nor trusted."""
    token = _only_trusted.set(True)
    try:
        yield
    finally:
        _only_trusted.reset(token)


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
            UserError: for a name or path that leads nowhere, whose import fails, or that must not
                be followed.
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
            self._check_trust(name, module)
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

    def _check_trust(self, name: str, module: str) -> None:
        if not _only_trusted.get() or module in sys.modules or _is_trusted(module):
            return
        raise UserError(
            f"the saved model or recorded run names the {self.kind} {name!r} by its path, and to "
            f"import {module!r} is to run its code. If you trust that module, set {TRUSTED}="
            f"{module} (several are separated by commas; a package stands for its modules), or "
            f"install its package with an entry point in the group {self.group!r}."
        )

    def _unknown(self, name: str) -> UserError:
        known = list(self)
        return UserError(
            f"there is no {self.kind} {name!r}.{did_you_mean(name, known)} There are: "
            f"{', '.join(known)}. One of your own is named `package.module:Object`, or is "
            f"installed with an entry point in the group {self.group!r}."
        )


def _is_trusted(module: str) -> bool:
    names = (name.strip() for name in os.environ.get(TRUSTED, "").split(","))
    return any(name and f"{module}.".startswith(f"{name}.") for name in names)


def _modules(package: str, folders: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the names and modules in the folders of a package and in the packages below it."""
    for found in pkgutil.iter_modules(folders):
        full = f"{package}.{found.name}"
        if not found.ispkg:
            yield found.name.replace("_", "-"), full
        else:
            yield from _modules(full, [f"{folder}/{found.name}" for folder in folders])
