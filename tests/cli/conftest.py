"""A small log with known tastes, and a workspace in which it was run."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from built_once import built_once
from cli_calls import Call, Called, call, run_arguments

NUM_USERS, NUM_ITEMS = 60, 40
FAST = """
[train.training]
epochs = 3
[evaluate.evaluation]
num_resamples = 100
"""


@pytest.fixture(scope="session", name="recmeta")
def recmeta_fixture() -> Call:
    """The command line, in this process."""
    return call


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with events.csv, users.csv, items.csv and fast.toml, which all tests share."""
    return built_once("cli-log", write_log, tmp_path_factory)


def write_log(folder: Path) -> None:
    """Write the log into a folder."""
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
        + [
            f"i{i},Thing {i},{'a|b' if i % 2 else 'b'},{i * 1.5},0{i % 4}" for i in range(NUM_ITEMS)
        ],
    }
    for name, content in lines.items():
        (folder / name).write_text("\n".join(content) + "\n")
    (folder / "fast.toml").write_text(FAST)


@pytest.fixture(scope="session")
def num_events(folder: Path) -> int:
    """Rows of events.csv without its header."""
    return len((folder / "events.csv").read_text().splitlines()) - 1


@pytest.fixture(scope="session")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Called]:
    """A workspace after `recmeta run --force`, and what that printed; no test harms it."""

    def build(into: Path) -> None:
        called = call(*run_arguments(folder, into / "ws"), "--force", "--device", "cpu")
        (into / "called.json").write_text(json.dumps(dataclasses.asdict(called)))

    built = built_once("cli-finished", build, tmp_path_factory)
    workspace = shutil.copytree(built / "ws", tmp_path_factory.mktemp("finished") / "ws")
    return workspace, Called(**json.loads((built / "called.json").read_text()))
