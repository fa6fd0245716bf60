"""Building tasks: what is on disk does not depend on how the log was parted, or on who watches."""

import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest
import torch

from recmeta import schema
from recmeta.errors import Broken, UserError
from recmeta.features.text_vectors import TEXT_VECTOR, keep, key_of
from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.steps.data import build_tasks, ingest
from recmeta.steps.data.build_tasks import BuildTasksConfig
from recmeta.tasks.placing import shards
from recmeta.tasks.split_config import SplitConfig
from recmeta.tasks.splits import interactions
from recmeta.tasks.task_set import SPLITS, TaskSet
from recmeta.workspace import Workspace


def ingested(folder: Path, num_logs: int = 3, items: AttributeSource | None = None) -> Workspace:
    """Return a workspace into which several logs of the same users came."""
    workspace = Workspace(folder / "workspace")
    rng = np.random.default_rng(0)
    for number in range(num_logs):
        size = 1_500
        rows = {
            "user_id": [f"u{n}" for n in rng.integers(0, 150, size)],
            "item_id": [f"i{n}" for n in rng.integers(0, 60, size)],
            "rating": rng.integers(1, 6, size),
            "timestamp": rng.integers(10**9, 10**9 + 4_000, size),
        }
        path = folder / f"log-{number}.csv"
        pl.DataFrame(rows).unique(["user_id", "item_id", "timestamp"]).write_csv(path)
        mapping = LogMapping(
            path=str(path), time_col="timestamp", value_col="rating", scale="1:5", items=items
        )
        ingest.run(mapping, workspace)
    return workspace


def contents(workspace: Workspace, tasks: str) -> dict[str, bytes]:
    folder = workspace / tasks
    return {name: folder.read_bytes(name) for name in folder.names()}


@pytest.mark.parametrize("kind", ["temporal", "random", "melu_states"])
def test_the_task_set_is_the_same_however_the_log_is_parted(
    kind: Literal["temporal", "random", "melu_states"],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = BuildTasksConfig(split=SplitConfig(split=kind))
    workspace = ingested(tmp_path)
    whole = build_tasks.run(config, workspace)
    before = contents(workspace, whole.outputs.tasks)
    monkeypatch.setattr(interactions, "ROWS_PER_PART", 400)
    monkeypatch.setattr(interactions, "ROWS_PER_BATCH", 300)
    again = Workspace(tmp_path / "again")
    shutil.copytree(workspace.local_path("tables"), again.local_path("tables"))
    parted = build_tasks.run(config, again)
    assert parted.counts == whole.counts
    assert contents(again, parted.outputs.tasks) == before


def test_shards_together_are_the_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = ingested(tmp_path, num_logs=1)
    monkeypatch.setattr(shards, "TASKS_PER_SHARD", 20)
    told: list[tuple[str, int, int]] = []
    manifest = build_tasks.run(
        BuildTasksConfig(), workspace, progress=lambda *message: told.append(message)
    )
    task_set = TaskSet(workspace / manifest.outputs.tasks)
    interactions = 0
    for name in SPLITS:
        tasks = task_set.tasks(name)
        assert task_set.spec.num_shards[name] == -(-len(tasks) // 20)
        assert tasks.user_id == sorted(tasks.user_id)
        assert len(tasks) == task_set.spec.num_tasks[name] == manifest.counts[f"tasks_{name}"]
        interactions += len(tasks.support.item) + len(tasks.query.item)
    assert interactions == task_set.spec.num_interactions == manifest.counts["interactions"]
    train = task_set.tasks("train")
    values = np.concatenate([train.support.value, train.query.value])
    assert task_set.spec.value_range == (values.min(), values.max())
    stages = list(dict.fromkeys(what for what, _, _ in told))
    assert stages == ["numbering", "reading", "placing", "statistics", "writing"]
    assert {what: (done, total) for what, done, total in told}["writing"] == (
        sum(task_set.spec.num_tasks.values()),
    ) * 2


def test_nobody_to_train_on_is_said(tmp_path: Path) -> None:
    workspace = ingested(tmp_path, num_logs=1)
    config = BuildTasksConfig(split=SplitConfig(test_share=0.99, dev_share=0.0099))
    with pytest.raises(UserError, match="no user is left to meta-train on"):
        build_tasks.run(config, workspace)


def test_texts_of_items_become_vectors_that_models_read(tmp_path: Path) -> None:
    films = tmp_path / "films.csv"
    titles = [f"Film {n}" for n in range(60)]
    pl.DataFrame({"id": [f"i{n}" for n in range(60)], "title": titles}).write_csv(films)
    items = AttributeSource(path=str(films), id_col="id", columns={"title": Attribute(kind="text")})
    workspace = ingested(tmp_path, num_logs=1, items=items)
    vectors = np.random.default_rng(0).normal(size=(60, 48)).astype(np.float32)
    known = zip([key_of(title) for title in titles], vectors, strict=True)
    keep(workspace / build_tasks.TEXT_VECTORS, dict(known))
    config = BuildTasksConfig(item_texts=("title",))
    task_set = TaskSet(workspace / build_tasks.run(config, workspace).outputs.tasks)
    found = task_set.items()
    number = int(found.item_id.to_pylist()[7][1:])
    assert found.attributes[TEXT_VECTOR][7].as_py() == vectors[number].tolist()
    model = Model.untrained(ModelConfig(), task_set, torch.device("cpu"))
    fields = {f.name: (f.kind, f.width) for f in model.encoder.item_fields}
    assert fields[TEXT_VECTOR] == ("vector", 48)
    assert "title" not in fields


def test_no_tasks_are_built_while_a_log_is_missing_from_the_tables(tmp_path: Path) -> None:
    """A table that was lost is made again from the log that is ingested; the others are named."""
    workspace = ingested(tmp_path, 2)
    one, other = (
        LogMapping(path=str(path), time_col="timestamp", value_col="rating", scale="1:5")
        for path in sorted(tmp_path.glob("log-*.csv"))
    )
    rows = pl.read_delta(workspace.table_uri(schema.INTERACTIONS)).height
    config = BuildTasksConfig()
    built = build_tasks.run(config, workspace)
    shutil.rmtree(workspace.local_path("tables/interactions"))
    assert ingest.run(one, workspace).reused is False
    assert 0 < pl.read_delta(workspace.table_uri(schema.INTERACTIONS)).height < rows
    told = r"1 of the logs that were ingested here .*\.json \([\d,]+ rows, ingested 20.* UTC\)\."
    with pytest.raises(Broken, match=told):
        build_tasks.run(config, workspace)
    assert ingest.run(other, workspace).reused is False
    assert ingest.run(one, workspace).reused is True
    assert pl.read_delta(workspace.table_uri(schema.INTERACTIONS)).height == rows
    again = build_tasks.run(config, workspace)
    assert contents(workspace, again.outputs.tasks) == contents(workspace, built.outputs.tasks)
