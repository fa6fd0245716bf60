"""user states ──▶ recommendations: the whole catalogue ranked for each user, published at once."""

import datetime
from typing import Any

import numpy as np
import polars as pl
from deltalake import DeltaTable, write_deltalake

from recmeta import schema
from recmeta.config import to_dict
from recmeta.manifest import Manifest, run_once
from recmeta.metalearn.model import Model
from recmeta.progress import Progress, silent
from recmeta.registry import versions
from recmeta.serving.ranking import AdaptedUsers, ScoringConfig, rank
from recmeta.steps.meta_train import choose_device
from recmeta.workspace import Workspace

STEP = "score"


def run(
    config: ScoringConfig,
    workspace: Workspace,
    adapted: Manifest,
    *,
    device: str = "auto",
    now: datetime.datetime | None = None,
    progress: Progress = silent,
) -> Manifest:
    """Rank the catalogue for adapted users and publish the lists in the `recommendations` table.

    A run's lists appear in one commit; doing the run again replaces them and nothing else.

    Args:
        adapted: the manifest of adapt.
        now: written as `scored_at`. None: the clock.
    """
    torch_device = choose_device(device)

    def work(key: str) -> tuple[dict[str, Any], dict[str, int]]:
        number = adapted.outputs["model_version"]
        version = versions.get(workspace, number)
        model = Model.load(versions.model_folder(workspace, version), torch_device)
        folder = workspace / adapted.outputs["states"]
        num_shards = adapted.outputs["num_shards"]
        parts = []
        for index in range(num_shards):
            users = AdaptedUsers.from_bytes(folder.read_bytes(f"shard-{index:05d}.safetensors"))
            parts.append(_lists(model, users, config))
            progress(STEP, index + 1, num_shards)
        clock = now or datetime.datetime.now(datetime.UTC)
        lists = pl.concat(parts).with_columns(
            pl.lit(key).alias(schema.RUN),
            pl.lit(number).alias(schema.MODEL_VERSION),
            pl.lit(clock).dt.cast_time_unit("us").alias(schema.SCORED_AT),
        )
        columns = schema.RECOMMENDATIONS.columns
        uri = workspace.table_uri(schema.RECOMMENDATIONS)
        DeltaTable.create(uri, schema=columns, mode="ignore")
        write_deltalake(
            uri,
            lists.select(columns.names).to_arrow().cast(columns),
            mode="overwrite",
            predicate=f"{schema.RUN} = '{key}'",
        )
        outputs = {
            "recommendations": uri,
            "run": key,
            "model_version": number,
            "table_version": DeltaTable(uri).version(),
        }
        return outputs, {"users": lists[schema.USER_ID].n_unique(), "rows_written": len(lists)}

    return run_once(
        workspace, STEP, config=to_dict(config), inputs={"adapted": adapted.key}, work=work
    )


def _lists(model: Model, users: AdaptedUsers, config: ScoringConfig) -> pl.DataFrame:
    """Return the ranked lists of one shard, a row per user and rank."""
    frames = []
    for some in users.batches(config.user_batch):
        ranked = rank(model, some.to(model.device), config)
        user, place = np.nonzero(ranked.item_Bk >= 0)
        frames.append(
            pl.DataFrame(
                {
                    schema.USER_ID: pl.Series(some.user_id, dtype=pl.String).gather(user),
                    schema.RANK: place.astype(np.int32) + 1,
                    schema.ITEM_ID: pl.Series(
                        model.catalogue.items.item_id.take(ranked.item_Bk[user, place])
                    ),
                    schema.SCORE: ranked.score_Bk[user, place],
                }
            )
        )
    return pl.concat(frames)
