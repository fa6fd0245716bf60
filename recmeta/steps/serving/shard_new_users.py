"""interactions ──▶ new users: users who came lately and their few interactions, in shards to adapt
to.

new_users/KEY/shard-00000    see `recmeta.steps.parts.new_user_files`
"""

import dataclasses
import datetime

import polars as pl

from recmeta import schema
from recmeta.config import to_dict
from recmeta.errors import UserError
from recmeta.features.attributes import newest
from recmeta.logs import tables
from recmeta.manifest import Manifest, run_once
from recmeta.records.step_definition import Folders, Step
from recmeta.steps.parts.new_user_files import INTERACTIONS, PROFILES, write
from recmeta.tasks.hashing import unit_hash
from recmeta.workspace import Workspace, sealing, writes


@dataclasses.dataclass(frozen=True, kw_only=True)
class NewUsersConfig:
    """Which users are new, and how the work is split."""

    window_days: int = 30
    """A user is new on the day of the first interaction and this many days, less one, after it."""
    users_per_shard: int = 2_000
    """About how many users one shard has."""

    def __post_init__(self) -> None:
        for name in ("window_days", "users_per_shard"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardNewUsersOutputs:
    """The outputs for a day's new users."""

    shards: tuple[str, ...]
    """Folders in the workspace; none if nobody is new."""


STEP = Step("new-users", ShardNewUsersOutputs, leaves=(Folders(lambda outputs: outputs.shards),))


def count_arrivals(workspace: Workspace, day: datetime.date) -> int:
    """Return how many users had their first interaction on a day (UTC)."""
    first = _first_days(tables.scan(workspace, schema.INTERACTIONS))
    return int(first.filter(pl.col(schema.DATE) == day).select(pl.len()).collect().item())


@writes
def run(
    workspace: Workspace, day: datetime.date, config: NewUsersConfig | None = None
) -> Manifest[ShardNewUsersOutputs]:
    """Write the users who are new on a day, with all their interactions up to its end, shard by
    shard.

    Later interactions do not count, so that a day gives the same users whenever it is run, except
    for rows that arrive late. A log without times has no new users.
    """
    config = config or NewUsersConfig()
    versions = tables.versions(workspace)
    inputs = {t.name: versions[t.name] for t in (schema.INTERACTIONS, schema.USERS)}

    def work(key: str) -> tuple[ShardNewUsersOutputs, dict[str, int]]:
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
            known = _profiles(profiles, members, day)
            with sealing(workspace / name) as folder:
                if known.height:
                    write(folder, PROFILES, known)
                write(folder, INTERACTIONS, rows.join(members, on=schema.USER_ID, how="semi"))
            shards.append(name)
        counts = {"users": len(users), "interactions": rows.height}
        return ShardNewUsersOutputs(shards=tuple(shards)), counts

    return run_once(
        workspace,
        STEP,
        config={"day": day.isoformat(), **to_dict(config)},
        inputs=inputs,
        work=work,
    )


def _first_days(interactions: pl.LazyFrame) -> pl.LazyFrame:
    first = pl.col(schema.TIMESTAMP).min().dt.date().alias(schema.DATE)
    return interactions.group_by(schema.USER_ID).agg(first)


def _rows(workspace: Workspace, day: datetime.date, config: NewUsersConfig) -> pl.DataFrame:
    """Return the new users' interactions until the day's end; only ratings, if there are any."""
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
