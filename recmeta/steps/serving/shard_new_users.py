"""interactions ──▶ new users: who came lately and what little they did, in shards to adapt to.

new_users/KEY/shard-00000/interactions.parquet   user_id, item_id, timestamp, value
new_users/KEY/shard-00000/profiles.parquet       user_id and raw attributes
"""

import dataclasses
import datetime
import io
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from recmeta import schema
from recmeta.config import to_dict
from recmeta.errors import UserError
from recmeta.features.attributes import newest
from recmeta.logs import tables
from recmeta.logs.mapping import Attribute, AttributeSource, Kind, LogMapping
from recmeta.manifest import Manifest, run_once
from recmeta.tasks.hashing import unit_hash
from recmeta.workspace import Folder, Workspace

STEP = "new-users"
INTERACTIONS = "interactions.parquet"
PROFILES = "profiles.parquet"


@dataclasses.dataclass(frozen=True, kw_only=True)
class NewUsersConfig:
    """Who is new, and how the work is split."""

    window_days: int = 30
    """A user is new on the day of the first interaction and this many days, less one, after it."""
    users_per_shard: int = 2_000
    """About how many users one shard has."""

    def __post_init__(self) -> None:
        for name in ("window_days", "users_per_shard"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1.")


def count_arrivals(workspace: Workspace, day: datetime.date) -> int:
    """Return how many users had their first interaction on a day (UTC)."""
    first = _first_days(tables.scan(workspace, schema.INTERACTIONS))
    return int(first.filter(pl.col(schema.DATE) == day).select(pl.len()).collect().item())


def run(workspace: Workspace, day: datetime.date, config: NewUsersConfig | None = None) -> Manifest:
    """Write those who are new on a day, with all they did up to its end, shard by shard.

    What came in later does not count, so that a day gives the same users whenever it is run, except
    for rows that arrive late. A log without times has no new users.

    Returns:
        The manifest; `shards` are folders in the workspace, none where nobody is new.
    """
    config = config or NewUsersConfig()
    versions = tables.versions(workspace)
    inputs = {t.name: versions[t.name] for t in (schema.INTERACTIONS, schema.USERS)}

    def work(key: str) -> tuple[dict[str, Any], dict[str, int]]:
        rows = _rows(workspace, day, config)
        users = rows.select(pl.col(schema.USER_ID).unique().sort()).to_series()
        num_shards = -(-len(users) // config.users_per_shard)
        shard = pl.Series("shard", (unit_hash(users.to_arrow(), 0) * num_shards).astype("int64"))
        placed = pl.DataFrame({schema.USER_ID: users, "shard": shard})
        profiles = tables.scan(workspace, schema.USERS)
        shards = []
        for index in sorted(shard.unique().to_list()):
            name = f"new_users/{key}/shard-{index:05d}"
            members = placed.filter(pl.col("shard") == index).select(schema.USER_ID)
            folder = workspace / name
            known = _profiles(profiles, members, day)
            if known.height:
                _write(folder, PROFILES, known)
            _write(folder, INTERACTIONS, rows.join(members, on=schema.USER_ID, how="semi"))
            shards.append(name)
        return {"shards": shards}, {"users": len(users), "interactions": rows.height}

    return run_once(
        workspace,
        STEP,
        config={"day": day.isoformat(), **to_dict(config)},
        inputs=inputs,
        work=work,
    )


def shard_mapping(workspace: Workspace, shard: str) -> LogMapping:
    """Return a written shard as the file of new users that adapt reads.

    Args:
        shard: one of the manifest's `shards`, or another folder with such files; those of a log
            without times have none.
    """
    place = f"{workspace.location}/{shard}"
    folder = workspace / shard
    columns = pq.read_schema(pa.BufferReader(folder.read_bytes(INTERACTIONS))).names
    profiles = None
    if folder.exists(PROFILES):
        fields = pq.read_schema(pa.BufferReader(folder.read_bytes(PROFILES)))
        profiles = AttributeSource(
            path=f"{place}/{PROFILES}",
            id_col=schema.USER_ID,
            columns={
                f.name: Attribute(kind=_kind(f.type)) for f in fields if f.name != schema.USER_ID
            },
        )
    return LogMapping(
        path=f"{place}/{INTERACTIONS}",
        time_col=schema.TIMESTAMP if schema.TIMESTAMP in columns else None,
        value_col=schema.VALUE,
        users=profiles,
    )


def _first_days(interactions: pl.LazyFrame) -> pl.LazyFrame:
    first = pl.col(schema.TIMESTAMP).min().dt.date().alias(schema.DATE)
    return interactions.group_by(schema.USER_ID).agg(first)


def _rows(workspace: Workspace, day: datetime.date, config: NewUsersConfig) -> pl.DataFrame:
    """Return what the new users did until the day's end; ratings alone, where there are any."""
    interactions = tables.scan(workspace, schema.INTERACTIONS)
    graded = pl.col(schema.EVENT) == schema.RATING_EVENT
    earliest = day - datetime.timedelta(days=config.window_days - 1)
    new = _first_days(interactions).filter(pl.col(schema.DATE).is_between(earliest, day))
    return (
        interactions.filter(graded | ~graded.any())
        .join(new, on=schema.USER_ID, how="semi")
        .filter(pl.col(schema.TIMESTAMP).dt.date() <= day)
        .sort(schema.USER_ID, schema.TIMESTAMP, schema.ITEM_ID)
        .select(schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.VALUE)
        .collect()
    )


def _profiles(profiles: pl.LazyFrame, members: pl.DataFrame, day: datetime.date) -> pl.DataFrame:
    """Return the members' newest attributes of that day; a row for those only who have any."""
    known = pl.col(schema.VALID_FROM).is_null() | (pl.col(schema.VALID_FROM).dt.date() <= day)
    return (
        newest(
            profiles.filter(known).join(members.lazy(), on=schema.USER_ID, how="semi"),
            schema.USER_ID,
        )
        .sort(schema.USER_ID)
        .collect()
    )


def _kind(type_: pa.DataType) -> Kind:
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return "multi"
    return "numeric" if pa.types.is_floating(type_) else "categorical"


def _write(folder: Folder, name: str, rows: pl.DataFrame) -> None:
    stream = io.BytesIO()
    rows.write_parquet(stream)
    folder.write_bytes(name, stream.getvalue())
