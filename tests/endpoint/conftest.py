"""A tiny workspace with two versions of the model, and a server of the first."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from built_once import copy_of
from served import Served, serving

from recmeta.endpoint.answers.champion import RegistrySource
from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.manifest import Manifest
from recmeta.metalearn.model import Model
from recmeta.recipes import default
from recmeta.registry.models import versions
from recmeta.steps.data import build_tasks, ingest
from recmeta.steps.learning import evaluate, meta_train, register
from recmeta.steps.learning.evaluate import EvaluateOutputs
from recmeta.testing.synthetic import SyntheticConfig, generate, write_csv
from recmeta.workspace import Workspace


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace whose champion is version 1; version 2 is the previous one."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    return Workspace(copy_of("served", build, tmp_path_factory) / "ws")


def build(root: Path) -> None:
    """Make a log and the workspace in a folder."""
    config = SyntheticConfig(num_users=80, num_items=40, rows_per_user=(6, 12))
    write_csv(generate(config, seed=0), root / "raw")
    stars = pl.col("value").round().clip(1, 5)
    rows = pl.read_csv(root / "raw" / "interactions.csv").with_columns(stars)
    rows.write_csv(root / "raw" / "interactions.csv")
    titles = "\n".join(f"i{n:02d},The Film No. {n}" for n in range(40))
    (root / "titles.csv").write_text(f"item_id,title\n{titles}\n")
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
            path=str(root / "titles.csv"),
            id_col="item_id",
            columns={"title": Attribute(kind="text")},
        ),
    )
    workspace = Workspace(root / "ws")
    ingest.run(log, workspace)
    recipe = default()
    tasks = build_tasks.run(recipe.tasks, workspace)
    quick = dataclasses.replace(recipe.evaluate.evaluation, num_resamples=20, shots=(0, 2, 5))
    training = dataclasses.replace(recipe.train.training, epochs=1)
    train = dataclasses.replace(recipe.train, training=training)
    trained = meta_train.run(train, workspace, tasks, device="cpu")
    config_e = dataclasses.replace(
        recipe.evaluate, evaluation=quick, baselines=("item-mean", "popularity", "mf-fold-in")
    )
    report = evaluate.run(config_e, workspace, tasks, trained, device="cpu")
    registered = register.run(workspace, report, force=True)
    _register_another(workspace, registered.outputs.model_version, report)


def _register_another(workspace: Workspace, number: str, report: Manifest[EvaluateOutputs]) -> None:
    """Register a second version, whose scores are others, and make it the previous champion."""
    first = versions.get(workspace, number)
    model = Model.load(workspace / report.outputs.model)
    model.params = {name: p * 1.1 for name, p in model.params.items()}
    folder = workspace / "models" / "another"
    model.save(folder)
    assert first.run_id is not None
    another = versions.register_version(
        workspace,
        run_id=first.run_id,
        model_folder=folder,
        model_key="another",
        tags={},
        description="",
    )
    versions.promote(workspace, another, "a test")
    versions.rollback(workspace)


@pytest.fixture(scope="session")
def source(workspace: Workspace) -> RegistrySource:
    """The workspace's registry."""
    return RegistrySource(workspace)


@pytest.fixture(scope="session")
def served(source: RegistrySource) -> Iterator[Served]:
    """A server that polls hardly ever."""
    with serving(source, poll_seconds=3600.0) as found:
        yield found


@pytest.fixture(scope="session")
def titles_file(workspace: Workspace) -> Path:
    """Where the titles came from."""
    return Path(workspace.path).parent / "titles.csv"
