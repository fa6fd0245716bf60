"""Keep the tables small and watch for drift."""

from airflow.sdk import CronTriggerTimetable, Param, dag, task

from recmeta.orchestration.names import DATE_PARAM, RETRAINING_REQUEST
from recmeta.orchestration.pools import TABLES_POOL
from recmeta.orchestration.runs import DEFAULT_ARGS, announce, day_of, logger
from recmeta.orchestration.settings import workspace

DOC = """
### Housekeeping, and a look at whether the champion still fits

Every morning (UTC). Lists and user states past their time are deleted, small files put together,
files that no version needs removed. Versions of a table that a registered model was trained on
stay, so that it can be rebuilt.

* **`drift`** compares the last days with what the champion was trained on: population stability of
  attributes, values and scores, the share of unknown items, and the champion's error on the newest
  day's ratings against that of the item mean. The report is in the workspace, `reports/drift/DAY`.
* **`request-retraining`** announces `retraining_request`, which `meta_train` follows, if something
  is out of bounds or no model was trained for `max_days`.
"""


@dag(
    dag_id="maintenance",
    schedule=CronTriggerTimetable("0 6 * * *", timezone="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    params={
        "date": DATE_PARAM,
        "recommendation_days": Param(
            90, type="integer", minimum=1, title="Keep lists", description="this many days."
        ),
        "recommendation_runs": Param(
            None,
            type=["null", "integer"],
            minimum=0,
            title="Keep runs of lists that stand for no day",
            description="this many of the newest; empty: all that are young enough.",
        ),
        "state_days": Param(
            14, type="integer", minimum=1, title="Keep user states", description="this many days."
        ),
        "vacuum_days": Param(
            7,
            type="integer",
            minimum=1,
            title="Keep unneeded files",
            description="this many days, so that who reads an older version can finish.",
        ),
        "max_days": Param(
            7.0,
            type="number",
            minimum=0,
            title="Most days without a training",
            description="After them one is asked for, drift or not.",
        ),
    },
    doc_md=DOC,
    tags=["recmeta"],
)
def maintenance() -> None:
    @task(task_id="expire", pool=TABLES_POOL)
    def expire(*, params=None) -> dict[str, int]:
        """Delete lists and user states past their time."""
        from recmeta.steps.upkeep.maintenance import MaintenanceConfig, expire

        limits = MaintenanceConfig(
            recommendation_days=params["recommendation_days"],
            recommendation_runs=params["recommendation_runs"],
            state_days=params["state_days"],
        )
        return expire(workspace(), limits)

    @task(task_id="optimise", pool=TABLES_POOL)
    def optimise() -> dict[str, int]:
        """Put small files together."""
        from recmeta.steps.upkeep.maintenance import optimise

        return optimise(workspace())

    @task(task_id="vacuum", pool=TABLES_POOL)
    def vacuum(*, params=None) -> dict[str, int]:
        """Remove files that no version needs."""
        from recmeta.steps.upkeep.maintenance import MaintenanceConfig, vacuum

        return vacuum(workspace(), MaintenanceConfig(vacuum_days=params["vacuum_days"]))

    @task(task_id="choose-day")
    def choose_day(**context) -> str:
        """The param, or the newest day that was ingested."""
        from recmeta.steps.parts.days import latest_day

        return (day_of(context) or latest_day(workspace())).isoformat()

    @task(task_id="drift")
    def drift(day: str) -> list[str]:
        """What is out of bounds, compared with what the champion was trained on."""
        from recmeta.logs.reading.partitions import parse_day
        from recmeta.registry.models import versions
        from recmeta.steps.upkeep import drift

        if versions.champion(workspace()) is None:
            logger.info("There is no champion to watch yet.")
            return []
        return list(drift.run(workspace(), parse_day(day)).outputs.findings)

    @task.short_circuit(task_id="needs-retraining")
    def needs_retraining(findings: list[str], *, params=None) -> bool:
        """Whether something is out of bounds, or the last training too long ago."""
        from recmeta.steps.learning.retraining import is_overdue

        return is_overdue(workspace(), findings, max_days=params["max_days"])

    @task(task_id="request-retraining", outlets=[RETRAINING_REQUEST])
    def request_retraining(day: str, findings: list[str], *, outlet_events=None) -> None:
        """Ask meta_train for a new model."""
        announce(outlet_events, RETRAINING_REQUEST, day, findings=findings)

    expire() >> optimise() >> vacuum()
    day = choose_day()
    findings = drift(day)
    needs_retraining(findings) >> request_retraining(day, findings)


maintenance()
