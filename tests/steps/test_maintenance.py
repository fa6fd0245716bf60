"""Housekeeping deletes what nobody needs, and nothing else; drift is found where there is some."""

import datetime
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given
from hypothesis import strategies as st
from trained import Trained

from recmeta import schema
from recmeta.errors import UserError
from recmeta.features.stability import stability
from recmeta.logs.mapping import LogMapping
from recmeta.serving.ranking import ScoringConfig
from recmeta.steps.data import build_tasks, ingest
from recmeta.steps.data.build_tasks import BuildTasksConfig
from recmeta.steps.learning.retraining import RetrainingConfig, is_due, is_overdue, last_training
from recmeta.steps.parts import new_user_files
from recmeta.steps.serving import adapt, publish, score, shard_new_users
from recmeta.steps.upkeep import drift, maintenance
from recmeta.steps.upkeep.drift import DriftConfig
from recmeta.steps.upkeep.maintenance import MaintenanceConfig
from recmeta.workspace import Workspace

FAR = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=400)


def publish_day(trained: Trained, day: datetime.date) -> None:
    ws = trained.workspace
    shards = shard_new_users.run(ws, day).outputs.shards
    adapted = [adapt.run(new_user_files.shard_mapping(ws, s), ws, device="cpu") for s in shards]
    publish.publish(ws, day, [score.run(ScoringConfig(), ws, a, device="cpu") for a in adapted])


# Tables ------------------------------------------------------------------------------------------


def test_small_files_become_few_and_rows_stay(trained: Trained) -> None:
    uri = trained.workspace.table_uri(schema.INTERACTIONS)
    before = pl.read_delta(uri).sort(schema.INTERACTIONS.key)
    assert maintenance.optimise(trained.workspace) == {}  # not enough of them to be worth it
    fewer = maintenance.optimise(trained.workspace, min_files=3)
    assert fewer["interactions"] == 5
    assert len(DeltaTable(uri).file_uris()) == 1
    assert pl.read_delta(uri).sort(schema.INTERACTIONS.key).equals(before)


def test_vacuum_deletes_what_killed_writers_left_once_it_is_old(trained: Trained) -> None:
    folder = trained.workspace.local_path(schema.INTERACTIONS.path)
    killed, working = (Path(folder) / f"part-{name}.zstd.parquet" for name in ("a", "b"))
    for path in (killed, working):
        path.write_bytes(b"no version has it")
    os.utime(killed, (10**9, 10**9))
    assert maintenance.vacuum(trained.workspace) == {"interactions": 1}
    assert not killed.exists()
    assert working.exists()
    working.unlink()


def test_vacuum_spares_what_the_champion_was_trained_on(trained: Trained) -> None:
    ws = trained.workspace
    uri = ws.table_uri(schema.INTERACTIONS)
    trained_on = trained.tasks.inputs["interactions"]
    before = pl.read_delta(uri, version=trained_on)
    maintenance.optimise(ws, min_files=2)
    deleted = maintenance.vacuum(ws)
    assert deleted == {}  # nothing is a week old
    # As if a week had passed: without the model, the files before the compaction would go.
    gone = DeltaTable(uri).vacuum(0, dry_run=True, enforce_retention_duration=False)
    keep = maintenance._versions_of_models(ws)["interactions"]
    assert keep == [trained_on]
    spared = DeltaTable(uri).vacuum(
        0, dry_run=False, enforce_retention_duration=False, keep_versions=keep
    )
    assert len(spared) < len(gone)
    assert pl.read_delta(uri, version=trained_on).equals(before)


def test_lists_and_states_go_when_their_time_is_over(trained: Trained) -> None:
    ws, day = trained.workspace, trained.days[-1]
    publish_day(trained, day)
    assert maintenance.expire(ws) == {"recommendations": 0, "states": 0, "unfinished": 0}
    rows = publish.lists_of(ws, day).height
    assert rows
    expired = maintenance.expire(ws, now=FAR)
    assert expired == {"recommendations": rows, "states": 1, "unfinished": 0}
    assert publish.lists_of(ws, day).height == 0
    assert pl.read_delta(ws.table_uri(schema.PUBLISHED)).height == 0
    assert (ws / "states").names() == []
    publish_day(trained, day)  # all is made again when it is asked for
    assert publish.lists_of(ws, day).height == rows


def test_the_newest_runs_of_no_day_are_kept_and_all_of_days(trained: Trained) -> None:
    ws, day = trained.workspace, trained.days[-1]
    publish_day(trained, day)
    published = pl.read_delta(ws.table_uri(schema.PUBLISHED))[schema.RUN].unique().to_list()
    now = datetime.datetime.now(datetime.UTC)
    lists = pl.read_delta(ws.table_uri(schema.RECOMMENDATIONS))
    for age, run in enumerate(("newest", "second", "third", "fourth")):
        scored = pl.lit(now - datetime.timedelta(hours=20 * age)).alias(schema.SCORED_AT)
        copy = lists.filter(pl.col(schema.RUN) == published[0]).with_columns(
            pl.lit(run).alias(schema.RUN), scored
        )
        rows = copy.select(lists.columns).to_arrow(compat_level=pl.CompatLevel.oldest())
        write_deltalake(
            ws.table_uri(schema.RECOMMENDATIONS),
            rows.cast(schema.RECOMMENDATIONS.columns),
            mode="append",
        )
    later = now + datetime.timedelta(minutes=1)
    assert maintenance.expire(ws, now=later)["recommendations"] == 0
    keep_one = MaintenanceConfig(recommendation_runs=1)
    assert maintenance.expire(ws, keep_one, now=later)["recommendations"] == 2 * copy.height
    kept = set(pl.read_delta(ws.table_uri(schema.RECOMMENDATIONS))[schema.RUN])
    assert kept == {*published, "newest", "second"}  # the second is of the last 24 hours


def test_a_workspace_without_lists_has_nothing_to_expire(trained: Trained) -> None:
    found = maintenance.expire(trained.workspace, now=FAR)
    assert found == {"recommendations": 0, "states": 0, "unfinished": 0}


def test_what_killed_runs_left_goes_when_nobody_resumes_them(trained: Trained) -> None:
    ws, day = trained.workspace, trained.days[-1]
    publish_day(trained, day)
    (finished,) = (ws / "states").names()
    (ws / "lists" / "killed").write_bytes("shard-00000.parquet", b"lists")
    (ws / "states" / "killed").write_bytes("shard-00000.safetensors", b"states")
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=13)
    assert maintenance.expire(ws, now=soon)["unfinished"] == 0
    assert (ws / "lists").names() == ["killed"]
    patient = MaintenanceConfig(state_days=300, recommendation_days=500)
    later = soon + datetime.timedelta(days=200)
    assert maintenance.expire(ws, patient, now=later)["unfinished"] == 0
    result = maintenance.expire(ws, MaintenanceConfig(recommendation_days=500), now=FAR)
    assert result == {"recommendations": 0, "states": 1, "unfinished": 2}
    assert finished not in (ws / "states").names()
    assert (ws / "lists").names() == (ws / "states").names() == []


def test_nothing_is_kept_for_no_time() -> None:
    with pytest.raises(UserError, match="state_days is 0; it must be at least 1 day"):
        MaintenanceConfig(state_days=0)


# Drift -------------------------------------------------------------------------------------------

SAMPLES = st.lists(st.one_of(st.none(), st.sampled_from("abcd")), min_size=1, max_size=50)


@given(SAMPLES, SAMPLES)
def test_stability_is_symmetric_in_categories_and_zero_for_the_same(
    one: list[str | None], other: list[str | None]
) -> None:
    a, b = pl.Series("a", one, pl.String), pl.Series("b", other, pl.String)
    there, back, same = stability(a, b), stability(b, a), stability(a, a)
    assert there is not None
    assert back is not None
    assert same is not None
    assert same.index == 0
    assert there.index >= 0
    if set(one) == set(other):
        assert there.index == pytest.approx(back.index)


def test_stability_against_a_count_by_hand() -> None:
    a, b = pl.Series(["x"] * 80 + ["y"] * 20), pl.Series(["x"] * 50 + ["y"] * 50)
    p, q = np.array([80.5, 20.5]) / 101, np.array([50.5, 50.5]) / 101
    found = stability(a, b)
    assert found is not None
    assert found.index == pytest.approx(np.sum((q - p) * np.log(q / p)))
    assert found.by_chance == pytest.approx(1 / 100 + 1 / 100)


def test_chance_alone_stays_in_bounds_and_a_shift_does_not() -> None:
    rng = np.random.default_rng(0)
    reference = pl.Series(rng.normal(size=5_000))
    excess = []
    for _ in range(20):
        found = stability(reference, pl.Series(rng.normal(size=300)))
        assert found is not None
        excess.append(found.excess)
    assert max(excess) < 0.1
    assert np.mean(excess) < 0.02
    moved = stability(reference, pl.Series(rng.normal(1.0, size=300)))
    assert moved is not None
    assert moved.excess > 0.5


@pytest.mark.parametrize(
    ("reference", "now"),
    [([["a", "b"], ["a"]], [["b"], ["b"]]), ([1.0, 2.0, None], [None, None, None])],
)
def test_lists_and_nulls_count(reference: list[object], now: list[object]) -> None:
    a = pl.Series(reference)
    found = stability(a, pl.Series(now, dtype=a.dtype))
    assert found is not None
    assert found.index > 0
    assert stability(a, a.clear()) is None


def test_the_days_after_the_training_do_not_drift(trained: Trained) -> None:
    ws, day = trained.workspace, trained.days[-1]
    publish_day(trained, day)
    found = drift.run(ws, day, DriftConfig(window_days=60, min_rows=30))
    report = (ws / found.outputs.report).read_json("drift.json")
    assert set(report["stability_index"]) == {
        "value",
        "users.group",
        "users.age",
        "items.genre",
        "items.tags",
    } - ({"users.group", "users.age"} if found.counts["interactions"] < 500 else set())
    assert report["unknown_items"] == 0
    assert report["live_error"]["rows"] > 0
    assert 0 < report["live_error"]["model_mae"] < 2
    assert found.outputs.retrain == bool(found.outputs.findings)
    assert drift.run(ws, day, DriftConfig(window_days=60, min_rows=30)).reused


def test_a_strange_day_is_found_out(trained: Trained, tmp_path: Path) -> None:
    """Unknown items, values of another scale and a model that is wrong about them."""
    ws, day = trained.workspace, trained.days[-1] + datetime.timedelta(days=1)
    path = tmp_path / "log.csv"
    known = pl.read_delta(ws.table_uri(schema.INTERACTIONS))
    users = known[schema.USER_ID].unique().sort()[:40]
    seconds = int(datetime.datetime.combine(day, datetime.time(), datetime.UTC).timestamp())
    items = [*(f"new{i}" for i in range(6)), *known[schema.ITEM_ID].unique().sort()[:6]]
    rows = pl.DataFrame({"user_id": users}).join(pl.DataFrame({"item_id": items}), how="cross")
    rows = rows.with_columns(
        time=seconds + pl.int_range(pl.len()),
        value=pl.when(pl.col("item_id").str.starts_with("new")).then(9.0).otherwise(-9.0),
    )
    rows.write_csv(path)
    ingest.run(LogMapping(path=str(path), time_col="time", value_col="value"), ws)
    found = drift.run(ws, day, DriftConfig(window_days=1, min_rows=100))
    assert found.outputs.retrain
    told = " ".join(found.outputs.findings)
    assert "value has moved" in told
    assert "50% of the interactions are with items that the champion does not know" in told
    text = (ws / found.outputs.report).read_bytes("drift.md").decode()
    assert "# Drift on" in text
    assert "| value |" in text


# Retraining --------------------------------------------------------------------------------------


def test_when_a_training_is_due(trained: Trained) -> None:
    ws = trained.workspace
    last = last_training(ws)
    assert last is not None
    assert last.key == trained.model.key
    assert not is_due(ws, trained.tasks).due
    newer = build_tasks.run(BuildTasksConfig(), ws)  # with the days after the training
    num_new = newer.counts["interactions"] - trained.tasks.counts["interactions"]
    assert num_new > 0
    assert is_due(ws, newer).due
    assert not is_due(ws, newer, RetrainingConfig(min_new_interactions=num_new + 1)).due
    soon = is_due(ws, newer, RetrainingConfig(min_days=1))
    assert not soon.due
    assert "min_days is 1" in soon.reason
    late = RetrainingConfig(min_days=1, min_new_interactions=num_new + 1)
    assert is_due(ws, newer, late, now=FAR).due
    followed = is_due(ws, trained.tasks, RetrainingConfig(min_new_interactions=0))
    assert not followed.due
    assert newer.key in followed.reason


def test_a_model_is_asked_for_once_there_is_something_to_train_on(
    trained: Trained, tmp_path: Path
) -> None:
    drifted = ["value has moved"]
    assert not is_overdue(Workspace(tmp_path), drifted, max_days=0.0)
    ws = trained.workspace
    assert not is_overdue(ws, [], max_days=7.0)
    assert is_overdue(ws, drifted, max_days=7.0)
    assert is_overdue(ws, [], max_days=7.0, now=FAR)


def test_a_workspace_without_a_model_is_due(trained: Trained) -> None:
    ws = trained.workspace
    (ws / "manifests" / "meta-train").filesystem.delete_dir_contents(
        (ws / "manifests" / "meta-train").path
    )
    assert is_due(ws, trained.tasks).due
    assert is_overdue(ws, [], max_days=7.0)


def test_without_a_champion_there_is_no_drift(trained: Trained, tmp_path: Path) -> None:
    empty = Workspace(tmp_path)
    with pytest.raises(UserError, match="no champion"):
        drift.run(empty, trained.days[0])


def test_limits_grow() -> None:
    with pytest.raises(UserError, match="min_days is 8 and max_days 7"):
        RetrainingConfig(min_days=8)
