"""The released code of a project, at one commit, in a folder outside the tree."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

from recmeta.errors import UserError

TREE = Path(__file__).resolve().parents[4]
ADAPTORS = Path(__file__).parent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Project:
    """Whose code, and which of it."""

    name: str
    repository: str
    """What git fetches from."""
    commit: str
    """The whole hash: what is at another commit is not run."""
    reason: str
    """In words, why its figures are others than ours."""
    within: str = "."
    """The folder of the repository that its code runs in."""

    def checkout(self, folder: Path) -> Path:
        """Return the folder of the code, fetched where it is not there.

        Args:
            folder: outside the tree; holds a checkout for each project, by name.

        Raises:
            UserError: where the folder is inside the tree, the code cannot be had, or is at another
                commit.
        """
        target = folder.resolve() / self.name
        if target.is_relative_to(TREE):
            raise UserError(f"--code is {str(folder)!r}; it must be outside of {str(TREE)!r}.")
        if not target.exists():
            self._git("clone", "--quiet", "--no-checkout", self.repository, str(target))
            self._git("-C", str(target), "checkout", "--quiet", self.commit, "--", "*.py")
        found = self._git("-C", str(target), "rev-parse", "HEAD").strip()
        if found != self.commit:
            raise UserError(
                f"{str(target)!r} is at commit {found}; the audit is of {self.commit}: remove the "
                "folder, and it is fetched again."
            )
        return target / self.within

    def run(self, folder: Path, adaptor: str, *arguments: Path | str) -> None:
        """Run an adaptor, a script beside this file, in the project's checkout.

        Raises:
            UserError: where it fails, with the end of what it said.
        """
        script = str(ADAPTORS / adaptor)
        place = self.checkout(folder)
        done = subprocess.run(
            # -P: what is beside the adaptor is not found before what is in the checkout.
            [sys.executable, "-P", script, *map(str, arguments)],
            cwd=place,
            env=_environment(place),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise UserError(f"{self.name}'s code fails here: {done.stderr.strip()[-600:]}")

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise UserError(
                f"the code of {self.name} cannot be had from {self.repository}: "
                f"{done.stderr.strip()}. Put a clone of it into the folder of --code, as "
                f"{self.name}."
            )
        return done.stdout


def _environment(place: Path) -> dict[str, str]:
    """Return ours, with the checkout where Python looks for modules."""
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{place}{os.pathsep}{before}" if before else str(place)}
