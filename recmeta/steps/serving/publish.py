"""ranked lists of several runs ──▶ the lists of a day: audited first, then published in one commit.

`score` writes each shard's lists into `recommendations` under a run of its own, where nobody looks
until the table `published` names the run. The lists of a day are therefore

    SELECT r.* FROM recommendations r JOIN published p USING (run) WHERE p.date = DAY

Publishing a day again replaces that day's output and nothing else.
"""

import collections
import datetime

import polars as pl
from deltalake import write_deltalake

from recmeta import schema
from recmeta.errors import UserError
from recmeta.logs import tables
from recmeta.manifest import Manifest, find, forget
from recmeta.steps.serving import adapt, score
from recmeta.steps.serving.adapt import AdaptOutputs
from recmeta.steps.serving.score import ScoreOutputs
from recmeta.workspace import Workspace, writes

ROWS_AT_ONCE = 2_000_000
"""The number of lists that are audited at once: users are divided by their hash, so that memory
stays at some hundred megabytes for any number of users."""


def create_tables(workspace: Workspace) -> None:
    """Make the tables of lists, empty, if they do not exist; writers may then race."""
    for table in (schema.RECOMMENDATIONS, schema.PUBLISHED):
        tables.create(workspace, table)


def audit(workspace: Workspace, scored: list[Manifest[ScoreOutputs]]) -> dict[str, int]:
    """Return how many users and rows the runs have, if their lists are well-formed.

    Raises:
        UserError: if a rule is broken; the message names every one. Each adapted user has a list,
            no user has two, ranks count from 1 without a gap, scores are finite, and no item is in
            a list twice.
    """
    create_tables(workspace)
    runs = [manifest.outputs.run for manifest in scored]
    lists = tables.scan(workspace, schema.RECOMMENDATIONS).filter(pl.col(schema.RUN).is_in(runs))
    expected = sum(_adapted(workspace, manifest).counts["users"] for manifest in scored)
    num_rows = lists.select(pl.len()).collect().item()
    num_parts = 1 + num_rows // ROWS_AT_ONCE
    found = collections.Counter[str]()
    for part in range(num_parts):
        of_part = pl.col(schema.USER_ID).hash() % num_parts == part
        found.update(_audited(lists.filter(of_part)))
    broken = {
        "adapted users without a list": expected - found["lists"],
        "users in two shards": found["lists"] - found["users"],
        "lists whose ranks have gaps": found["rank"],
        "lists with scores that are not finite": found["score"],
        "lists with an item twice": found["item"],
    }
    faults = [f"{count} {what}" for what, count in broken.items() if count]
    if faults:
        raise UserError(
            f"the lists of the runs {', '.join(runs)} are not fit to be published: "
            f"{'; '.join(faults)}. What was published before stands."
        )
    return {"users": found["lists"], "rows": num_rows}


def _audited(lists: pl.LazyFrame) -> dict[str, int]:
    """Return how many lists and users there are, and how many lists break each rule."""
    columns = (schema.RUN, schema.USER_ID, schema.RANK, schema.ITEM_ID, schema.SCORE)
    rank, item, score = (pl.col(name) for name in columns[2:])
    gaps = (rank.min() != 1) | (rank.max() != pl.len()) | (rank.n_unique() != pl.len())
    checked = lists.select(columns).group_by(schema.RUN, schema.USER_ID)
    counted = (
        checked.agg(
            gaps.alias("rank"),
            (~score.is_finite()).any().alias("score"),
            (item.n_unique() < pl.len()).alias("item"),
        )
        .select(
            pl.len().alias("lists"),
            pl.col(schema.USER_ID).n_unique().alias("users"),
            pl.col("rank", "score", "item").sum(),
        )
        .collect()
    )
    return {name: int(count) for name, count in counted.row(0, named=True).items()}


@writes
def publish(
    workspace: Workspace,
    day: datetime.date,
    scored: list[Manifest[ScoreOutputs]],
    *,
    now: datetime.datetime | None = None,
) -> dict[str, int]:
    """Make the runs' lists the lists of a day; lists that no longer belong to any day are deleted.

    Args:
        scored: the manifests of score, one per shard.
        now: written as `published_at`. If None, the current time.

    Returns:
        The day's numbers of runs and users, and how many rows of replaced lists were deleted.
    """
    clock = now or datetime.datetime.now(datetime.UTC)
    create_tables(workspace)
    rows = pl.DataFrame(
        {
            schema.DATE: [day] * len(scored),
            schema.RUN: [m.outputs.run for m in scored],
            schema.MODEL_VERSION: [m.outputs.model_version for m in scored],
            schema.NUM_USERS: [m.counts["users"] for m in scored],
            schema.PUBLISHED_AT: [clock] * len(scored),
        },
        schema=pl.Schema(tables.empty(schema.PUBLISHED).schema),
    )

    def change() -> set[str]:
        """Publish, and return the runs that no day has any more."""
        published = tables.open_table(workspace, schema.PUBLISHED)
        before = pl.scan_delta(published).collect()
        old = before.filter(pl.col(schema.DATE) == day)
        if set(old[schema.RUN]) != set(rows[schema.RUN]):
            write_deltalake(
                published,
                rows.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema.PUBLISHED.columns),
                mode="overwrite",
                predicate=f"{schema.DATE} = '{day.isoformat()}'",
                commit_properties=tables.ONLY_NEXT,
            )
        of_other_days = before.filter(pl.col(schema.DATE) != day)[schema.RUN]
        return set(old[schema.RUN]) - set(rows[schema.RUN]) - set(of_other_days)

    replaced = tables.redo(workspace, change)
    deleted = delete_runs(workspace, sorted(replaced))
    return {"runs": len(scored), "users": int(rows[schema.NUM_USERS].sum()), "deleted": deleted}


def lists_of(workspace: Workspace, day: datetime.date) -> pl.DataFrame:
    """Return the recommendations of a day, by user and rank; none if there are none."""
    if not tables.is_there(workspace, schema.PUBLISHED):
        return tables.empty(schema.RECOMMENDATIONS)
    published = tables.scan(workspace, schema.PUBLISHED).filter(pl.col(schema.DATE) == day)
    lists = tables.scan(workspace, schema.RECOMMENDATIONS)
    found = lists.join(published.select(schema.RUN), on=schema.RUN, how="semi")
    return found.sort(schema.USER_ID, schema.RANK).collect()


def delete_runs(workspace: Workspace, runs: list[str]) -> int:
    """Delete the lists of runs, and the manifests that say that they are there.

    Returns:
        How many rows were deleted.
    """
    if not runs:
        return 0
    for run in runs:
        forget(workspace, score.STEP, run)
    named = ", ".join(f"'{run}'" for run in runs)
    return tables.delete(workspace, schema.RECOMMENDATIONS, f"{schema.RUN} IN ({named})")


def _adapted(workspace: Workspace, scored: Manifest[ScoreOutputs]) -> Manifest[AdaptOutputs]:
    found = find(workspace, adapt.STEP, scored.inputs["adapted"])
    if found is None:
        raise UserError(
            f"the users of the run {scored.outputs.run} were cleaned up: adapt and score again."
        )
    return found
