"""The command line, called as a person calls it."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from recmeta.cli.app import build

COLUMNS = ["--user-col", "uid", "--item-col", "sku"]
VALUES = ["--value-col", "stars", "--scale", "1:5"]
LOG_OPTIONS = [*COLUMNS, "--time-col", "ts", "--time-unit", "s", *VALUES]


@dataclasses.dataclass(frozen=True)
class Called:
    """What a call of the command line left behind."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The object on the last line of standard output, which is all that is there."""
        (line,) = self.stdout.splitlines()

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is no JSON")

        found: dict[str, Any] = json.loads(line, parse_constant=refuse)
        return found


Call = Callable[..., Called]


def call(*arguments: object) -> Called:
    """Call the command line in this process."""
    result = CliRunner().invoke(build(), [str(a) for a in arguments], prog_name="recmeta")
    return Called(result.exit_code, result.stdout, result.stderr)


def run_arguments(folder: Path, workspace: Path) -> list[object]:
    """Return the arguments of a `recmeta run` on the log."""
    return [
        "run",
        "--dataset",
        folder / "events.csv",
        *LOG_OPTIONS,
        "--users",
        folder / "users.csv",
        "--items",
        folder / "items.csv",
        "--config",
        folder / "fast.toml",
        "--workspace",
        workspace,
        "--json",
    ]
