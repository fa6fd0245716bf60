"""Environments in which there is what one extra brings, and nothing else.

A virtual environment gets the built distribution, and links to what that requires of the libraries
that the tests run with: all that the metadata names, and what those name in their turn. Whatever
code here needs beside them is not there to be imported, nor is its metadata.
"""

import dataclasses
import importlib.metadata
import os
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TIMEOUT_SECONDS = 300


@dataclasses.dataclass(frozen=True)
class Environment:
    """A virtual environment, away from the checkout."""

    folder: Path

    def run(
        self, *command: object, cwd: Path, **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run one of its programs, and return what it said."""
        program, *arguments = map(str, command)
        kept = {
            name: value
            for name, value in os.environ.items()
            if name != "PYTHONPATH" and not name.startswith(("RECMETA_", "MLFLOW_", "AIRFLOW"))
        }
        return subprocess.run(
            [str(self.folder / "bin" / program), *arguments],
            cwd=cwd,
            env={**kept, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", **variables},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )


Installed = Callable[..., Environment]
"""Takes extras; what it returns is made once."""


def install(wheel: Path, extras: tuple[str, ...], folder: Path) -> Environment:
    """Return a new environment with a wheel and what some of its extras bring."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    arguments = ("install", "--quiet", "--no-deps", "--no-index", "--no-compile", str(wheel))
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *arguments], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (own,) = importlib.metadata.distributions(name="recmeta", path=[str(site)])
    for distribution in required(own, extras):
        for source in top_level(distribution):
            target = site / source.name
            if not target.exists():
                target.symlink_to(source)
    return Environment(folder)


def required(
    own: importlib.metadata.Distribution, extras: tuple[str, ...]
) -> list[importlib.metadata.Distribution]:
    """Return the distributions that one requires with some of its extras, as far as they are
    installed where the tests run, and those that they require."""
    found: dict[str, importlib.metadata.Distribution] = {canonicalize_name("recmeta"): own}
    seen: set[tuple[str, str]] = set()
    waiting = [("recmeta", extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        if name not in found:
            try:
                found[name] = importlib.metadata.distribution(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        for line in found[name].requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                needed = canonicalize_name(requirement.name)
                waiting += [(needed, wanted) for wanted in ("", *requirement.extras)]
    del found["recmeta"]
    return list(found.values())


def top_level(distribution: importlib.metadata.Distribution) -> Iterator[Path]:
    """Yield the files and folders of a distribution that lie in site-packages itself."""
    names = {path.parts[0] for path in distribution.files or []}
    for name in sorted(names - {"..", "__pycache__"}):
        yield Path(str(distribution.locate_file(name)))
