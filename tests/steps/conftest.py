"""A tiny workspace with a champion, for the steps that come after the first training."""

import dataclasses
import datetime
import shutil
from pathlib import Path

import pytest
from built_once import built_once
from trained import Trained

from recmeta import manifest
from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.logs.split_by_day import HISTORY, split_by_day
from recmeta.recipes import default
from recmeta.registry.tracking import DATABASE
from recmeta.steps.data import build_tasks, ingest
from recmeta.steps.learning import evaluate, meta_train, register
from recmeta.testing.synthetic import SyntheticConfig, generate, write_csv
from recmeta.workspace import Workspace


@pytest.fixture(scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trained]:
    """What all tests have that ask for it, and the workspace of this process's own."""
    kept = built_once("trained", build, tmp_path_factory)
    workspace = Workspace(shutil.copytree(kept / "ws", tmp_path_factory.mktemp("trained") / "ws"))
    partitions = [path for path in (kept / "days").iterdir() if path.name != HISTORY]
    days = sorted(datetime.date.fromisoformat(path.stem) for path in partitions)
    tasks = manifest.latest(workspace, build_tasks.STEP)
    model = manifest.latest(workspace, meta_train.STEP)
    return kept / "ws", Trained(workspace, tasks, model, days)


def build(root: Path) -> None:
    """Make a log and the workspace in a folder."""
    config = SyntheticConfig(num_users=150, num_items=60, rows_per_user=(8, 20))
    write_csv(generate(config, seed=0), root / "raw")
    log = LogMapping(
        path=str(root / "raw" / "interactions.csv"),
        time_col="timestamp",
        value_col="value",
        users=AttributeSource(
            path=str(root / "raw" / "users.csv"),
            id_col="user_id",
            columns={"group": Attribute(kind="categorical"), "age": Attribute(kind="numeric")},
        ),
        items=AttributeSource(
            path=str(root / "raw" / "items.csv"),
            id_col="item_id",
            columns={"genre": Attribute(kind="categorical"), "tags": Attribute(kind="multi")},
        ),
    )
    split = split_by_day(log, str(root / "days"), num_days=5)
    assert split.history is not None
    workspace = Workspace(root / "ws")
    ingest.run(split.history, workspace)
    recipe = default()
    training = dataclasses.replace(recipe.train.training, epochs=3)
    tasks = build_tasks.run(recipe.tasks, workspace)
    model = meta_train.run(
        dataclasses.replace(recipe.train, training=training), workspace, tasks, device="cpu"
    )
    judged = dataclasses.replace(
        recipe.evaluate, baselines=("item-mean", "popularity", "mf-fold-in")
    )
    report = evaluate.run(judged, workspace, tasks, model, device="cpu")
    register.run(workspace, report, force=True)
    for day in split.days:
        ingest.run_day(split.daily, day, workspace)


@pytest.fixture
def trained(_built: tuple[Path, Trained], monkeypatch: pytest.MonkeyPatch) -> Trained:
    """The workspace, as it was before the tests that ran."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    kept, built = _built
    place = Path(built.workspace.path)
    for path in place.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != DATABASE:
            path.unlink()
    # Over the database, not in its place: MLflow has it open still, and SQLite would take another
    # file of its name for one that must not be written.
    shutil.copytree(kept, place, dirs_exist_ok=True)
    return built
