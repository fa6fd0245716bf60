"""One day of logs per run: ingest, check, features, tasks."""

from airflow.sdk import DAG, CronPartitionTimetable, Param, task

from recmeta.orchestration.names import ALL, DATE_PARAM, Names
from recmeta.orchestration.runs import (
    DEFAULT_ARGS,
    announce,
    day_of,
    deadline,
    log_counts,
    recorded,
)
from recmeta.orchestration.settings import (
    config,
    done_file,
    feature_store,
    ingest_config,
    manifest,
    mapping,
    workspace,
)
from recmeta.orchestration.shape import limited
from recmeta.orchestration.waiting import WaitForLog

DOC = """
### One day of logs becomes interactions, and the interactions tasks

Runs every midnight (UTC) for the day that has just ended; the run's *partition key* is that day. It
waits until the day's log exists and is complete, without occupying a worker, ingests it, stops if
the day looks wrong, writes the features (and puts them online if a feature store is set) and builds
the task set. Running a day again changes nothing, and a late day can be run at any time.

* **Assets** `interactions` and `tasks`, which `meta_train` follows, and, on days with new users,
  `new_users`, which `cold_start_scoring` follows. All carry the day as partition.
* **By hand**, trigger it with the param *Day*; without it, the oldest day that is not ingested yet
  is taken.
* **A range of days** is run with
  `airflow backfill create --dag-id build_tasks --from-date 2026-01-01 --to-date 2026-01-10`.
* **If `check-data-quality` fails**, its message says what is wrong with the day. The good rows are
  already in the interactions, but no tasks were built from them.
"""


PARAMS = {
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
}


def build_tasks(names: Names) -> None:
    @task(**limited("choose-day"))
    def choose_day(**context) -> str:
        """Return the run's partition, the param, or the day that is due."""
        from recmeta.steps.parts.days import next_day

        day = day_of(context) or next_day(mapping(), workspace(), done_file=done_file())
        return day.isoformat()

    @task(
        **limited("ingest"),
        outlets=[names.interactions],
        pool=names.tables_pool,
    )
    def ingest(day: str, *, outlet_events=None) -> str:
        """Write the day's log to the interactions or to the quarantine."""
        from recmeta.logs.reading.partitions import mapping_of, parse_day
        from recmeta.steps.data.ingest import run_day

        log = mapping_of(mapping(), parse_day(day))
        read = [source.path for source in (log, log.users, log.items) if source is not None]
        done = run_day(mapping(), parse_day(day), workspace(), config=ingest_config())
        announce(outlet_events, names.interactions, day, key=done.key, **done.counts)
        return recorded(done, read)

    @task(**limited("check-data-quality"))
    def check_data_quality(key: str, *, params=None) -> dict[str, float]:
        """Stop a day that looks wrong before tasks are built from it."""
        from recmeta.steps.data import ingest
        from recmeta.steps.data.data_quality import DataQualityConfig, check

        limits = DataQualityConfig(
            min_rows=params["min_rows"],
            max_quarantined_share=params["max_quarantined_share"],
            max_volume_ratio=params["max_volume_ratio"],
        )
        measured = check(workspace(), manifest(ingest.STEP, key), limits)
        log_counts("the day looks normal", measured)
        return measured

    @task(
        **limited("materialise-features"),
        pool=names.tables_pool,
    )
    def materialise(day: str) -> str:
        """Write the daily activity of users and items and, with a feature store, put features
        online."""
        from recmeta.logs.reading.partitions import end_of, parse_day
        from recmeta.steps.data import materialise_features

        done = materialise_features.run(
            workspace(), feature_store=feature_store(), until=end_of(parse_day(day))
        )
        return recorded(done)

    @task(
        **limited("build-tasks"),
        outlets=[names.tasks],
        pool=names.tables_pool,
    )
    def build(day: str, *, outlet_events=None) -> str:
        """Build the users' tasks, with item features as of each task's cut time."""
        from recmeta.steps.data import build_tasks

        done = build_tasks.run(config().tasks, workspace())
        announce(outlet_events, names.tasks, day, key=done.key, **done.counts)
        return recorded(done)

    @task(
        **limited("find-new-users"),
        outlets=[names.new_users],
    )
    def find_new_users(day: str, *, outlet_events=None) -> int:
        """Announce that the day brought new users."""
        from airflow.sdk.exceptions import AirflowSkipException

        from recmeta.logs.reading.partitions import parse_day
        from recmeta.steps.serving.shard_new_users import count_arrivals

        users = count_arrivals(workspace(), parse_day(day))
        if not users:
            raise AirflowSkipException(f"Nobody had a first interaction on {day}.")
        announce(outlet_events, names.new_users, day, users=users)
        return users

    day = choose_day()
    arrival = WaitForLog(
        **limited("wait-for-log"),
        day=day,
        poll_seconds=60,
        retries=0,
    )
    ingested = ingest(day)
    checked = check_data_quality(ingested)
    arrival >> ingested
    checked >> materialise(day) >> build(day)
    checked >> find_new_users(day)


for names in ALL:
    with DAG(
        names.of("build_tasks"),
        schedule=CronPartitionTimetable(
            "0 0 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d"
        ),
        catchup=False,
        max_active_runs=4,
        default_args=DEFAULT_ARGS,
        deadline=deadline(),
        params=PARAMS,
        doc_md=DOC,
        tags=names.tags,
    ):
        build_tasks(names)
