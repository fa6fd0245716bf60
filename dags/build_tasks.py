"""One day of logs per run: ingest, check, features, tasks."""

import datetime

from airflow.sdk import CronPartitionTimetable, Param, dag, task

from recmeta.orchestration.names import DATE_PARAM, INTERACTIONS, NEW_USERS, TASKS
from recmeta.orchestration.pools import TABLES_POOL
from recmeta.orchestration.runs import DEFAULT_ARGS, announce, day_of
from recmeta.orchestration.settings import (
    config,
    done_file,
    feature_store,
    manifest,
    mapping,
    workspace,
)
from recmeta.orchestration.waiting import WaitForLog

DOC = """
### One day of logs becomes interactions, and the interactions tasks

Runs every midnight (UTC) for the day that has just ended; the run's *partition key* is that day. It
waits until the day's log is there and whole, without keeping a worker, ingests it, stops if the day
looks wrong, writes the features (and puts them online, where a feature store is set) and builds the
task set anew. Doing a day again changes nothing; a late day can be run at any time.

* **Assets** `interactions` and `tasks`, which `meta_train` follows, and, on days that bring
  somebody new, `new_users`, which `cold_start_scoring` follows. All carry the day as partition.
* **By hand** with the param *Day*; without it the oldest day is taken that was not ingested yet.
* **A range of days** `airflow backfill create --dag-id build_tasks --from-date 2026-01-01
  --to-date 2026-01-10`.
* **When `check-data-quality` fails** its message says what is wrong with the day. The good rows are
  in the interactions already; no tasks were built from them.
"""


@dag(
    dag_id="build_tasks",
    schedule=CronPartitionTimetable(
        "0 0 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d"
    ),
    catchup=False,
    max_active_runs=4,
    default_args=DEFAULT_ARGS,
    params={
        "date": DATE_PARAM,
        "max_quarantined_share": Param(
            0.05,
            type="number",
            minimum=0,
            maximum=1,
            title="Largest quarantined share",
            description="The day is refused if more of its rows are in the quarantine.",
        ),
        "min_rows": Param(
            1,
            type="integer",
            minimum=0,
            title="Fewest new rows",
            description="The day is refused if it brings fewer rows that were not known already. 0 "
            "lets a day pass that brings nothing new.",
        ),
        "max_volume_ratio": Param(
            20.0,
            type="number",
            minimum=1,
            title="Largest volume ratio",
            description="The day is refused if it brings this many times more, or fewer, new rows "
            "than the days before (their median).",
        ),
    },
    doc_md=DOC,
    tags=["recmeta"],
)
def build_tasks() -> None:
    @task(task_id="choose-day")
    def choose_day(**context) -> str:
        """The run's partition, the param, or the day that is due."""
        from recmeta.steps.parts.days import next_day

        day = day_of(context) or next_day(mapping(), workspace(), done_file=done_file())
        return day.isoformat()

    @task(task_id="ingest", outlets=[INTERACTIONS], pool=TABLES_POOL)
    def ingest(day: str, *, outlet_events=None) -> str:
        """The day's log becomes rows of the interactions, or of the quarantine."""
        from recmeta.logs.reading.partitions import parse_day
        from recmeta.steps.data.ingest import run_day

        done = run_day(mapping(), parse_day(day), workspace())
        announce(outlet_events, INTERACTIONS, day, key=done.key, **done.counts)
        return done.key

    @task(task_id="check-data-quality")
    def check_data_quality(key: str, *, params=None) -> dict[str, float]:
        """Stop a day that looks wrong before tasks are built from it."""
        from recmeta.steps.data import ingest
        from recmeta.steps.data.data_quality import DataQualityConfig, check

        limits = DataQualityConfig(
            min_rows=params["min_rows"],
            max_quarantined_share=params["max_quarantined_share"],
            max_volume_ratio=params["max_volume_ratio"],
        )
        return check(workspace(), manifest(ingest.STEP, key), limits)

    @task(task_id="materialise-features", pool=TABLES_POOL)
    def materialise(day: str) -> str:
        """Activity of users and items day by day; with a feature store, everything online."""
        from recmeta.logs.reading.partitions import end_of, parse_day
        from recmeta.steps.data import materialise_features

        return materialise_features.run(
            workspace(), feature_store=feature_store(), until=end_of(parse_day(day))
        ).key

    @task(task_id="build-tasks", outlets=[TASKS], pool=TABLES_POOL)
    def build(day: str, *, outlet_events=None) -> str:
        """Users' support and query sets, and item features as of each one's cut time."""
        from recmeta.steps.data import build_tasks

        done = build_tasks.run(config().tasks, workspace())
        announce(outlet_events, TASKS, day, key=done.key, **done.counts)
        return done.key

    @task(task_id="find-new-users", outlets=[NEW_USERS])
    def find_new_users(day: str, *, outlet_events=None) -> int:
        """Announce that the day brought somebody new."""
        from airflow.sdk.exceptions import AirflowSkipException

        from recmeta.logs.reading.partitions import parse_day
        from recmeta.steps.serving.shard_new_users import count_arrivals

        users = count_arrivals(workspace(), parse_day(day))
        if not users:
            raise AirflowSkipException(f"Nobody had a first interaction on {day}.")
        announce(outlet_events, NEW_USERS, day, users=users)
        return users

    day = choose_day()
    arrival = WaitForLog(
        task_id="wait-for-log",
        day=day,
        patience=datetime.timedelta(hours=20),
        poll_seconds=60,
        retries=0,
    )
    ingested = ingest(day)
    checked = check_data_quality(ingested)
    arrival >> ingested
    checked >> materialise(day) >> build(day)
    checked >> find_new_users(day)


build_tasks()
