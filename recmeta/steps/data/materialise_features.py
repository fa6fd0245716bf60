"""interactions ──▶ activity of users and items, day by day; with a feature store, all of it online.

The tables are the offline features. Feast's online store holds the newest value of each. It is
outside the workspace and can lose its data, so it is written in every run.
"""

import dataclasses
import datetime
from typing import Any

import polars as pl

from recmeta import schema
from recmeta.features.activity import activity
from recmeta.logs import tables
from recmeta.logs.whole import TableVersions, check
from recmeta.manifest import Manifest, run_once
from recmeta.progress import Progress, silent
from recmeta.records.step_definition import Step
from recmeta.workspace import Workspace, writes


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaterialiseFeaturesOutputs:
    """The outputs of materialise-features."""

    user_activity: int
    """Version of the table."""
    item_activity: int
    """Version of the table."""
    online_until: str | None = None
    """The time (ISO 8601) as of which features are online; None without a feature store."""


ACTIVITY = (schema.USER_ACTIVITY, schema.ITEM_ACTIVITY)
STEP = Step(
    "materialise-features",
    MaterialiseFeaturesOutputs,
    leaves=(
        TableVersions(lambda outputs: {table: getattr(outputs, table.name) for table in ACTIVITY}),
    ),
)


@writes
def run(
    workspace: Workspace,
    *,
    feature_store: str | None = None,
    until: datetime.datetime | None = None,
    progress: Progress = silent,
) -> Manifest[MaterialiseFeaturesOutputs]:
    """Write the features of the current interactions, and put them online.

    Tables that exist are not written again. If a feature store is named, its definitions are
    applied and all features are put online; doing that again changes nothing.

    Args:
        feature_store: folder of a Feast repository, or a configuration in it; if None, only tables
            are written.
        until: online features are those known at this time, or at the latest one of a run before,
            so that an old day which is ingested late takes nothing back. If None, the current time.

    Returns:
        The manifest; `online_until` is not stored, since every call puts features online.

    Raises:
        UserError: if nothing has been ingested, or Feast refuses the repository.
    """
    interactions = check(workspace, schema.INTERACTIONS)

    def work(key: str) -> tuple[MaterialiseFeaturesOutputs, dict[str, int]]:
        versions: dict[str, Any] = {}
        counts: dict[str, int] = {}
        for table in ACTIVITY:
            frame = activity(pl.scan_delta(interactions), table)
            rows = frame.collect().to_arrow().cast(table.columns)
            versions[table.name] = tables.overwrite(workspace, table, rows)
            counts[f"{table.name}_rows"] = rows.num_rows
        return MaterialiseFeaturesOutputs(**versions), counts

    progress(STEP, 0, 2)
    inputs = {schema.INTERACTIONS.name: interactions.version()}
    manifest = run_once(workspace, STEP, config={}, inputs=inputs, work=work)
    progress(STEP, 1, 2)
    if feature_store is not None:
        end = _put_online(workspace, feature_store, until or datetime.datetime.now(datetime.UTC))
        outputs = dataclasses.replace(manifest.outputs, online_until=end.isoformat())
        manifest = dataclasses.replace(manifest, outputs=outputs)
    progress(STEP, 2, 2)
    return manifest


@writes
def apply(workspace: Workspace, feature_store: str) -> None:
    """Register the definitions of a feature repository over the workspace's tables.

    Raises:
        UserError: if nothing has been ingested, or Feast refuses the repository.
    """
    from recmeta.features import feast_repository  # Feast takes seconds to import

    # Feast needs the tables; the statistics, for one, are written with the first tasks only.
    for table in (*ACTIVITY, schema.ITEM_STATISTICS):
        tables.create(workspace, table)
    feast_repository.apply_definitions(feature_store, workspace.location)


def _put_online(
    workspace: Workspace, feature_store: str, until: datetime.datetime
) -> datetime.datetime:
    from recmeta.features import feast_repository

    apply(workspace, feature_store)
    return feast_repository.materialise(feast_repository.open_store(feature_store), until)
