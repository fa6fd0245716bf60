"""A small log with known tastes, and the command line called as a person calls it."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from recmeta.cli.app import build

NUM_USERS, NUM_ITEMS = 60, 40
COLUMNS = ["--user-col", "uid", "--item-col", "sku"]
VALUES = ["--value-col", "stars", "--scale", "1:5"]
LOG_OPTIONS = [*COLUMNS, "--time-col", "ts", "--time-unit", "s", *VALUES]
FAST = """
[train.training]
epochs = 3
[evaluate.evaluation]
num_resamples = 100
"""


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


@pytest.fixture(scope="session", name="recmeta")
def recmeta_fixture() -> Call:
    """The command line, in this process."""
    return call


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with events.csv, users.csv, items.csv and fast.toml."""
    folder = tmp_path_factory.mktemp("log")
    random = np.random.default_rng(0)
    users = random.normal(size=(NUM_USERS, 2))
    items = random.normal(size=(NUM_ITEMS, 2))
    bias = random.normal(size=NUM_ITEMS) / 2
    events = ["uid,sku,ts,stars"]
    for user in range(NUM_USERS):
        met = random.permutation(NUM_ITEMS)[: random.integers(6, 25)]
        liking = 3.2 + bias[met] + items[met] @ users[user] + random.normal(size=len(met)) * 0.3
        stars = np.clip(np.rint(liking), 1, 5).astype(int)
        start = 1_700_000_000 + 1_000 * user
        events += [
            f"u{user},i{item},{start + 50 * place},{value}"
            for place, (item, value) in enumerate(zip(met, stars, strict=True))
        ]
    lines = {
        "events.csv": events,
        "users.csv": ["uid,age,city"]
        + [f"u{u},{20 + u % 50},{'Kyiv' if u % 3 else 'Lviv'}" for u in range(NUM_USERS)],
        "items.csv": ["sku,name,tags,price,area"]
        + [f"i{i},Thing {i},{'a|b' if i % 2 else 'b'},{i * 1.5},0{i % 4}" for i in range(NUM_ITEMS)],
    }
    for name, content in lines.items():
        (folder / name).write_text("\n".join(content) + "\n")
    (folder / "fast.toml").write_text(FAST)
    return folder


@pytest.fixture(scope="session")
def num_events(folder: Path) -> int:
    """Rows of events.csv without its header."""
    return len((folder / "events.csv").read_text().splitlines()) - 1


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


@pytest.fixture(scope="session")
def finished(folder: Path) -> tuple[Path, Called]:
    """A workspace after `recmeta run --force`, and what that printed. No test changes it for good."""
    workspace = folder / "finished"
    return workspace, call(*run_arguments(folder, workspace), "--force", "--device", "cpu")
