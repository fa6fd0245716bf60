"""A tiny but real model: written tasks, a fitted encoder, drawn parameters."""

import dataclasses

import numpy as np
import pyarrow as pa
import torch

from recmeta import schema
from recmeta.manifest import Manifest
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.registry.models.features import features_read
from recmeta.registry.runs.training_run import TrainingRun
from recmeta.steps.learning.evaluate import EvaluateOutputs
from recmeta.tasks.item_files import (
    Items,
    ItemStatistics,
    write_items,
    write_statistics,
)
from recmeta.tasks.task_set import (
    TaskSet,
    TaskSetSpec,
    write_shard,
    write_spec,
)
from recmeta.workspace import Folder, Workspace

NUM_ITEMS = 12
CONFIG = {"network": {"embedding_dim": 4, "hidden_dims": [8]}, "seed": 7}
INPUTS = {"interactions": 3, "users": 0, "tasks": "0123456789abcdef"}


def write_task_set(folder: Folder) -> TaskSet:
    """Eight meta-training users with ratings from 1 to 5; twelve items, the first renamed once."""
    item = np.array([0, *range(NUM_ITEMS)], np.int32)
    genres = [["drama"], *([["comedy"], ["drama", "war"]] * (NUM_ITEMS // 2))]
    write_items(
        folder,
        Items(
            pa.array([str(100 + i) for i in range(NUM_ITEMS)]),
            item,
            np.array([np.iinfo(np.int64).min, 5, *[np.iinfo(np.int64).min] * (NUM_ITEMS - 1)]),
            pa.table(
                {
                    "title": ["Working title", *(f"Film {i}" for i in range(NUM_ITEMS))],
                    "genres": genres,
                    "year": [1990.0 + i for i in range(NUM_ITEMS + 1)],
                }
            ),
        ),
    )
    seen = np.arange(NUM_ITEMS, 0, -1, dtype=np.float32)[None]
    write_statistics(folder, ItemStatistics(np.array([0]), seen, seen * 3.5))
    num_users = 8
    draw = np.random.default_rng(0)

    def side(size: int) -> dict[str, pa.Array]:
        items = [draw.permutation(NUM_ITEMS)[:size].tolist() for _ in range(num_users)]
        values = draw.integers(1, 6, (num_users, size)).astype(float).tolist()
        return {
            "item": pa.array(items, pa.list_(pa.int32())),
            "value": pa.array(values, pa.list_(pa.float32())),
            "counted": pa.array([[False] * size] * num_users, pa.list_(pa.bool_())),
        }

    support, query = side(4), side(3)
    table = pa.table(
        {
            schema.USER_ID: [f"u{i}" for i in range(num_users)],
            "occupation": ["doctor", "artist"] * (num_users // 2),
            "age": [20.0 + i for i in range(num_users)],
            "languages": [["en"], ["en", "fr"]] * (num_users // 2),
            schema.CUT_TIME: pa.array([10] * num_users, pa.int64()),
            schema.SNAPSHOT: pa.array([0] * num_users, pa.int32()),
            schema.STATE: ["user_cold"] * num_users,
            schema.SUPPORT_ITEM: support["item"],
            schema.SUPPORT_VALUE: support["value"],
            schema.SUPPORT_COUNTED: support["counted"],
            schema.QUERY_ITEM: query["item"],
            schema.QUERY_VALUE: query["value"],
            schema.QUERY_COUNTED: query["counted"],
        }
    )
    write_shard(folder, "train", 0, table)
    write_spec(
        folder,
        TaskSetSpec(
            objective="rating",
            value_range=(1.0, 5.0),
            num_items=NUM_ITEMS,
            num_tasks={"train": num_users, "dev": 0, "test": 0},
            num_shards={"train": 1, "dev": 0, "test": 0},
            num_interactions=num_users * 7,
            temporal=True,
        ),
    )
    return TaskSet(folder)


def draw_model(task_set: TaskSet, seed: int) -> Model:
    config = ModelConfig(network=PreferenceConfig(embedding_dim=4, hidden_dims=(8,)))
    model = Model.untrained(config, task_set, torch.device("cpu"))
    model.params = model.learner.init_params(torch.Generator().manual_seed(seed))
    return model


@dataclasses.dataclass
class Pipeline:
    """What stands in the workspace before the register step."""

    workspace: Workspace
    task_set: TaskSet

    def train(self, key: str, seed: int = 0) -> str:
        """Save a model and its run, as meta-train does; return the run's id."""
        model = draw_model(self.task_set, seed)
        folder = self.workspace / "models" / key
        model.save(folder)
        folder.write_bytes("checkpoint.safetensors", b"not part of the model")
        run = TrainingRun.start_or_resume(
            self.workspace,
            key,
            config=CONFIG,
            inputs=INPUTS,
            tasks_config={"seed": 7},
            features=features_read(model),
            device="cpu",
            libraries={"torch": torch.__version__},
            git_commit="c0ffee",
        )
        run.finish()
        return run.run_id

    def evaluate(
        self,
        key: str,
        *,
        promoted: bool,
        compared_with: str | None,
        beaten_by: tuple[str, ...] = (),
    ) -> Manifest[EvaluateOutputs]:
        """Write a report with the gate's decision, as evaluate does; return its manifest."""
        name = f"reports/{key}-{compared_with}-{promoted}"
        report = self.workspace / name
        reasons = ["Better than item-mean."] if promoted else ["Worse than item-mean."]
        report.write_json(
            "decision.json",
            {
                "promoted": promoted,
                "reasons": reasons,
                "beaten_by": list(beaten_by),
                "comparisons": [],
            },
        )
        report.write_json(
            "evaluation.json",
            {
                "primary_metric": "mae",
                "num_users": 40,
                "metrics": {
                    "meta-learner": {"mae": 0.7, "ndcg@5": 0.8, "rmse": None},
                    "item-mean": {"mae": 0.8, "ndcg@5": 0.75, "rmse": 1.0},
                },
            },
        )
        report.write_bytes("report.md", b"# Report\n")
        report.write_bytes("notes.tmp", b"")
        return Manifest(
            step="evaluate",
            key=name,
            config={},
            inputs={},
            outputs=EvaluateOutputs(
                report=name,
                model=f"models/{key}",
                model_key=key,
                run_id=self.train(key),
                compared_with=compared_with,
                promoted=promoted,
            ),
            counts={},
            libraries={},
            git_commit=None,
            finished_at="",
            seconds=0.0,
        )
