"""Maintenance of the tables, and a watch for drift."""

from airflow.sdk import DAG, CronTriggerTimetable, Param, task

from recmeta.orchestration.names import ALL, DATE_PARAM, Names
from recmeta.orchestration.runs import DEFAULT_ARGS, announce, day_of, log_counts, logger, recorded
from recmeta.orchestration.settings import workspace
from recmeta.orchestration.shape import limited

DOC = """
### Housekeeping, and a check whether the champion still fits

Runs every morning (UTC). Expired lists and user states are deleted, small files are merged, and
files that no version needs are removed. Versions of a table on which a registered model was trained
are kept, so that the model can be rebuilt.

* **`drift`** compares the last days with the champion's training data: population stability of
  attributes, values and scores, the share of unknown items, and the champion's error on the newest
  day's ratings against that of the item mean. The report is in the workspace, `reports/drift/DAY`.
* **`request-retraining`** announces `retraining_request`, which `meta_train` follows, if something
  is out of bounds or no model was trained for `max_days`.
"""


PARAMS = {
    "date": DATE_PARAM,
    "recommendation_days": Param(
        90,
        type="integer",
        minimum=1,
        title="Days to keep lists",
        description="Older lists are deleted.",
    ),
    "recommendation_runs": Param(
        None,
        type=["null", "integer"],
        minimum=0,
        title="Runs of unpublished lists to keep",
        description="The newest are kept. If empty, all that are recent enough are.",
    ),
    "state_days": Param(
        14,
        type="integer",
        minimum=1,
        title="Days to keep user states",
        description="Older states and capsules are deleted.",
    ),
    "event_days": Param(
        14,
        type="integer",
        minimum=1,
        title="Days to keep ingested events",
        description="Events that the endpoint kept are deleted there after so long in the log.",
    ),
    "vacuum_days": Param(
        7,
        type="integer",
        minimum=1,
        title="Days to keep unneeded files",
        description="Until then, readers of an older version can finish.",
    ),
    "max_days": Param(
        7.0,
        type="number",
        minimum=0,
        title="Most days without a training",
        description="After them, a training is requested even without drift.",
    ),
}


def maintenance(names: Names) -> None:
    @task(**limited("expire"), pool=names.tables_pool)
    def expire(*, params=None) -> dict[str, int]:
        """Delete expired lists and user states."""
        from recmeta.steps.upkeep.maintenance import MaintenanceConfig, expire

        limits = MaintenanceConfig(
            recommendation_days=params["recommendation_days"],
            recommendation_runs=params["recommendation_runs"],
            state_days=params["state_days"],
            event_days=params["event_days"],
        )
        deleted = expire(workspace(), limits)
        log_counts("deleted", deleted)
        return deleted

    @task(**limited("optimise"), pool=names.tables_pool)
    def optimise() -> dict[str, int]:
        """Merge small files."""
        from recmeta.steps.upkeep.maintenance import optimise

        done = optimise(workspace())
        log_counts("put together", done)
        return done

    @task(**limited("vacuum"), pool=names.tables_pool)
    def vacuum(*, params=None) -> dict[str, int]:
        """Remove files that no version needs."""
        from recmeta.steps.upkeep.maintenance import MaintenanceConfig, vacuum

        removed = vacuum(workspace(), MaintenanceConfig(vacuum_days=params["vacuum_days"]))
        log_counts("removed", removed)
        return removed

    @task(**limited("choose-day"))
    def choose_day(**context) -> str:
        """Return the param, or the newest day that was ingested."""
        from recmeta.steps.parts.days import latest_day

        return (day_of(context) or latest_day(workspace())).isoformat()

    @task(**limited("drift"))
    def drift(day: str) -> list[str]:
        """Return the measures that are out of bounds, compared with the champion's training
        data."""
        from recmeta.logs.reading.partitions import parse_day
        from recmeta.registry.models import versions
        from recmeta.steps.upkeep import drift

        if versions.champion(workspace()) is None:
            logger.info("There is no champion to watch yet.")
            return []
        done = drift.run(workspace(), parse_day(day))
        recorded(done)
        for finding in done.outputs.findings or ("Nothing is out of bounds.",):
            logger.info(finding)
        return list(done.outputs.findings)

    @task.short_circuit(**limited("needs-retraining"))
    def needs_retraining(findings: list[str], *, params=None) -> bool:
        """Return whether something is out of bounds, or the last training is too long ago."""
        from recmeta.steps.learning.retraining import is_overdue

        return is_overdue(workspace(), findings, max_days=params["max_days"])

    @task(
        **limited("request-retraining"),
        outlets=[names.retraining_request],
    )
    def request_retraining(day: str, findings: list[str], *, outlet_events=None) -> None:
        """Ask meta_train for a new model."""
        announce(outlet_events, names.retraining_request, day, findings=findings)

    expire() >> optimise() >> vacuum()
    day = choose_day()
    findings = drift(day)
    needs_retraining(findings) >> request_retraining(day, findings)


for names in ALL:
    with DAG(
        names.of("maintenance"),
        schedule=CronTriggerTimetable("0 6 * * *", timezone="UTC"),
        catchup=False,
        max_active_runs=1,
        default_args=DEFAULT_ARGS,
        params=PARAMS,
        doc_md=DOC,
        tags=names.tags,
    ):
        maintenance(names)
