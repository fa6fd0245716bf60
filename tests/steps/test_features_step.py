"""The features' tables, and new users whose profiles come from the online store."""

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from recmeta import schema
from recmeta.errors import UserError
from recmeta.features.activity import activity
from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.manifest import Manifest
from recmeta.steps.data import ingest, materialise_features
from recmeta.steps.parts import days as days_read
from recmeta.steps.parts import new_user_files
from recmeta.steps.serving import adapt, shard_new_users
from recmeta.steps.serving.adapt import AdaptOutputs
from recmeta.tasks.task_set import read_tasks
from recmeta.workspace import Workspace

if TYPE_CHECKING:
    from trained import Trained

REPOSITORY = Path(__file__).parents[2] / "feature_store"
NEW = "somebody else"

slow = pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it")


def read(workspace: Workspace, table: schema.Table) -> pl.DataFrame:
    return pl.read_delta(workspace.table_uri(table)).sort(table.key)


def test_the_tables_follow_the_interactions(trained: "Trained") -> None:
    workspace = trained.workspace
    done = materialise_features.run(workspace)
    assert not done.reused
    interactions = pl.scan_delta(workspace.table_uri(schema.INTERACTIONS))
    for table in materialise_features.ACTIVITY:
        expected = activity(interactions, table).collect().sort(table.key)
        assert read(workspace, table).equals(expected)
        assert done.counts[f"{table.name}_rows"] == expected.height
    again = materialise_features.run(workspace)
    assert again.reused
    assert (again.key, again.outputs) == (done.key, done.outputs)


def test_new_rows_are_materialised(trained: "Trained", tmp_path: Path) -> None:
    workspace = trained.workspace
    first = materialise_features.run(workspace)
    before = read(workspace, schema.USER_ACTIVITY)
    (tmp_path / "late.csv").write_text("user_id,item_id,timestamp,value\nlate,i01,86400,3\n")
    late = LogMapping(
        path=str(tmp_path / "late.csv"), time_col="timestamp", time_unit="s", value_col="value"
    )
    ingest.run(late, workspace)
    second = materialise_features.run(workspace)
    assert second.key != first.key
    after = read(workspace, schema.USER_ACTIVITY)
    added = after.join(before, on=before.columns, how="anti", nulls_equal=True)
    assert added[schema.USER_ID].unique().to_list() == ["late"]


def test_before_anything_is_ingested(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ingest a log first"):
        materialise_features.run(Workspace(tmp_path))


def newcomers(folder: Path, profiles: pl.DataFrame) -> LogMapping:
    """Return two users with two interactions each, one of whom no log knows, and profiles."""
    rows = [{"user_id": u, "item_id": i, "value": 4} for u in ("u001", NEW) for i in ("i01", "i02")]
    pl.DataFrame(rows).write_csv(folder / "new.csv")
    profiles.write_csv(folder / "profiles.csv")
    source = AttributeSource(
        path=str(folder / "profiles.csv"),
        id_col="user_id",
        columns={"group": Attribute(kind="categorical"), "age": Attribute(kind="numeric")},
    )
    return LogMapping(path=str(folder / "new.csv"), value_col="value", users=source)


def states(
    workspace: Workspace, done: Manifest[AdaptOutputs]
) -> tuple[bytes, list[dict[str, object]]]:
    """Return the users' states and the profiles that they were adapted with."""
    folder = workspace / done.outputs.states
    profiles = read_tasks(folder, "tasks-00000.arrow").profile.to_pylist()
    return folder.read_bytes("shard-00000.safetensors"), profiles


@slow
def test_profiles_are_read_online(trained: "Trained", tmp_path: Path) -> None:
    """Those of known users from the online store, those of others from the file."""
    workspace = trained.workspace
    shutil.copytree(REPOSITORY, tmp_path / "store", ignore=shutil.ignore_patterns("data", "__*"))
    store = str(tmp_path / "store")
    users = read(workspace, schema.USERS).drop(schema.VALID_FROM)
    known = users.filter(pl.col(schema.USER_ID) == "u001")
    assert known.height == 1
    somebody = known.with_columns(pl.lit(NEW).alias("user_id"), pl.lit(33.0).alias("age"))
    true = pl.concat([known, somebody])
    stale = true.with_columns(
        pl.when(pl.col("user_id") == NEW).then("age").otherwise(99.0).alias("age")
    )

    def adapted(profiles: pl.DataFrame, feature_store: str | None) -> Manifest[AdaptOutputs]:
        folder = tmp_path / "users"
        folder.mkdir(exist_ok=True)
        return adapt.run(
            newcomers(folder, profiles), workspace, device="cpu", feature_store=feature_store
        )

    with pytest.raises(UserError, match="nothing was applied"):
        adapted(stale, store)
    materialise_features.run(workspace, feature_store=store)
    online = adapted(stale, store)
    assert online.counts["without_profile"] == 0
    assert schema.FEATURE_SERVICE in online.inputs
    assert states(workspace, online) == states(workspace, adapted(true, None))
    assert states(workspace, online) != states(workspace, adapted(stale, None))
    assert adapted(stale, store).reused

    (tmp_path / "changed.jsonl").write_text(json.dumps({"user_id": "u001", "age": 12}) + "\n")
    changed = AttributeSource(
        path=str(tmp_path / "changed.jsonl"),
        id_col="user_id",
        columns={"age": Attribute(kind="numeric")},
    )
    (tmp_path / "none.csv").write_text("user_id,item_id,value\nu001,i01,3\n")
    ingest.run(
        LogMapping(path=str(tmp_path / "none.csv"), value_col="value", users=changed), workspace
    )
    assert adapted(stale, store).reused  # not online yet
    materialise_features.run(workspace, feature_store=store)
    newer = adapted(stale, store)
    assert newer.key != online.key
    assert states(workspace, newer) != states(workspace, online)


def test_without_a_feature_store_a_shard_is_adapted_once(trained: "Trained") -> None:
    shards = shard_new_users.run(trained.workspace, days_read.latest_day(trained.workspace))
    (shard, *_) = shards.outputs.shards
    mapping = new_user_files.shard_mapping(trained.workspace, shard)
    first = adapt.run(mapping, trained.workspace, device="cpu")
    assert schema.FEATURE_SERVICE not in first.inputs
    assert adapt.run(mapping, trained.workspace, device="cpu").reused
