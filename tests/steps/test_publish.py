"""New users, their lists, and what stands for a day."""

import datetime

import polars as pl
import pyarrow as pa
import pytest
from trained import Trained

from recmeta import schema
from recmeta.config import fingerprint, to_dict
from recmeta.errors import UserError
from recmeta.manifest import Manifest, latest
from recmeta.serving.ranking import ScoringConfig
from recmeta.steps.parts import new_user_files
from recmeta.steps.serving import adapt, publish, score, shard_new_users
from recmeta.steps.serving.score import ScoreOutputs
from recmeta.steps.serving.shard_new_users import NewUsersConfig
from recmeta.workspace import resumed


def interactions(trained: Trained) -> pl.DataFrame:
    return pl.read_delta(trained.workspace.table_uri(schema.INTERACTIONS))


def first_days(trained: Trained) -> pl.DataFrame:
    first = pl.col(schema.TIMESTAMP).min().dt.date().alias("first")
    return interactions(trained).group_by(schema.USER_ID).agg(first)


def scored(
    trained: Trained, day: datetime.date, config: NewUsersConfig
) -> list[Manifest[ScoreOutputs]]:
    """Adapt to and score everybody who is new on a day, shard by shard."""
    ws = trained.workspace
    shards = shard_new_users.run(ws, day, config).outputs.shards
    adapted = [adapt.run(new_user_files.shard_mapping(ws, s), ws, device="cpu") for s in shards]
    return [score.run(ScoringConfig(top_k=5), ws, a, device="cpu") for a in adapted]


def test_arrivals_are_the_first_interactions_of_a_day(trained: Trained) -> None:
    first = first_days(trained)
    for day in trained.days:
        expected = first.filter(pl.col("first") == day).height
        assert shard_new_users.count_arrivals(trained.workspace, day) == expected


@pytest.mark.parametrize("window", [1, 20])
def test_shards_hold_each_new_user_once_with_all_that_was_known(
    trained: Trained, window: int
) -> None:
    day = trained.days[2]
    config = NewUsersConfig(window_days=window, users_per_shard=2)
    manifest = shard_new_users.run(trained.workspace, day, config)
    assert shard_new_users.run(trained.workspace, day, config).reused
    frames = [
        pl.read_parquet(new_user_files.shard_mapping(trained.workspace, shard).path)
        for shard in manifest.outputs.shards
    ]
    rows = pl.concat(frames)
    assert sum(f[schema.USER_ID].n_unique() for f in frames) == rows[schema.USER_ID].n_unique()
    earliest = day - datetime.timedelta(days=window - 1)
    new = first_days(trained).filter(pl.col("first").is_between(earliest, day))
    until = interactions(trained).filter(pl.col(schema.TIMESTAMP).dt.date() <= day)
    expected = until.join(new, on=schema.USER_ID, how="semi")
    key = [schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.VALUE]
    assert rows.select(key).sort(key).equals(expected.select(key).sort(key))
    profiles = new_user_files.shard_mapping(trained.workspace, manifest.outputs.shards[0]).users
    assert profiles is not None
    assert {n: a.kind for n, a in profiles.columns.items()} == {
        "group": "categorical",
        "age": "numeric",
    }


def test_a_day_without_new_users_has_no_shards(trained: Trained) -> None:
    manifest = shard_new_users.run(trained.workspace, datetime.date(1999, 1, 1))
    assert manifest.outputs.shards == ()
    assert publish.audit(trained.workspace, []) == {"users": 0, "rows": 0}


def test_lists_that_an_earlier_version_began_are_made_anew(trained: Trained) -> None:
    ws, config = trained.workspace, ScoringConfig(top_k=4)
    shard = shard_new_users.run(ws, trained.days[2], NewUsersConfig()).outputs.shards[0]
    adapted = adapt.run(new_user_files.shard_mapping(ws, shard), ws, device="cpu")
    key = fingerprint(score.STEP, to_dict(config), {"adapted": adapted.key})
    staged = resumed(ws / "lists" / key)
    staged.write_parquet("shard-00000.parquet", pa.table({"user_id": ["u"], "rank": [1]}))
    staged.seal()
    done = score.run(config, ws, adapted, device="cpu")
    assert done.outputs.run == key
    assert done.counts["rows_written"] == 4 * adapted.counts["users"]


def test_publishing_again_replaces_the_day_and_nothing_else(trained: Trained) -> None:
    ws, (one, other) = trained.workspace, trained.days[-2:]
    config = NewUsersConfig(users_per_shard=3)
    runs = scored(trained, one, config)
    assert len(runs) > 1
    users = sum(m.counts["users"] for m in runs)
    assert publish.audit(ws, runs) == {"users": users, "rows": users * 5}
    assert publish.publish(ws, one, runs) == {"runs": len(runs), "users": users, "deleted": 0}
    assert publish.lists_of(ws, other).height == 0
    others = scored(trained, other, NewUsersConfig(window_days=1))
    publish.publish(ws, other, others)
    untouched = publish.lists_of(ws, other)
    # The same day anew, cut into other shards: the old lists are gone, the other day's stand.
    anew = scored(trained, one, NewUsersConfig(users_per_shard=2_000))
    result = publish.publish(ws, one, anew)
    assert result == {"runs": 1, "users": users, "deleted": users * 5}
    assert set(publish.lists_of(ws, one)[schema.RUN]) == {anew[0].outputs.run}
    assert publish.lists_of(ws, other).equals(untouched)
    version = ws.table_uri(schema.PUBLISHED)
    before = pl.read_delta(version)
    assert publish.publish(ws, one, anew)["deleted"] == 0
    assert pl.read_delta(version).equals(before)
    # The replaced runs are made again when they are asked for.
    assert not scored(trained, one, config)[0].reused
    assert latest(ws, score.STEP).step == "score"


@pytest.mark.parametrize("rows_at_once", [publish.ROWS_AT_ONCE, 7])
def test_lists_that_are_not_as_they_must_be_are_refused(
    trained: Trained, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "ROWS_AT_ONCE", rows_at_once)
    ws = trained.workspace
    (run,) = scored(trained, trained.days[-1], NewUsersConfig())
    uri = ws.table_uri(schema.RECOMMENDATIONS)
    rows = pl.read_delta(uri)
    user = rows[schema.USER_ID][0]
    broken = rows.filter(
        (pl.col(schema.USER_ID) != user) | (pl.col(schema.RANK) != 2)
    ).with_columns(
        pl.when(pl.col(schema.RANK) == 1)
        .then(float("nan"))
        .otherwise(pl.col(schema.SCORE))
        .cast(pl.Float32)
        .alias(schema.SCORE),
        pl.lit("the same").alias(schema.ITEM_ID),
    )
    types = schema.RECOMMENDATIONS.columns
    table = broken.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(types)
    from deltalake import write_deltalake

    write_deltalake(uri, table, mode="overwrite")
    users = rows[schema.USER_ID].n_unique()
    with pytest.raises(UserError) as error:
        publish.audit(ws, [run])
    message = str(error.value)
    assert "1 lists whose ranks have gaps" in message
    assert f"{users} lists with scores that are not finite" in message
    assert f"{users} lists with an item twice" in message


def test_limits_are_checked() -> None:
    with pytest.raises(UserError, match="users_per_shard is 0"):
        NewUsersConfig(users_per_shard=0)
