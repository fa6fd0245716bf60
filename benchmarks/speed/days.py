"""The cost of thirty days: each day's rows are ingested, and the tasks are built again.

    python -m benchmarks.speed.days --log interactions.parquet
    python -m benchmarks.speed.days --users 30000 --items 5000 --rows-a-day 20000

All days are replayed by one process, so that its start-up and its imports are in none of the days
but the first. The processor time of the two steps, including threads, is printed for each day.
`--full` builds all tasks again each day.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from recmeta.logs.mapping import LogMapping
from recmeta.manifest import redoing
from recmeta.steps.data import build_tasks, ingest
from recmeta.steps.parts.task_building import BuildTasksConfig
from recmeta.workspace import Workspace

NUM_DAYS = 30
START = 1_000_000_000
DAY = 86_400


def main() -> None:
    """Replay a log day by day, and print a line of JSON for each day."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--log", help="Parquet with user_id, item_id, timestamp and rating")
    parser.add_argument("--users", type=int, default=30_000)
    parser.add_argument("--items", type=int, default=5_000)
    parser.add_argument("--rows-a-day", type=int, default=20_000)
    parser.add_argument(
        "--rows-before", type=int, default=0, help="in the log before the first day"
    )
    parser.add_argument("--session", type=int, default=10, help="rows of a user on a day")
    parser.add_argument("--days", type=int, default=NUM_DAYS)
    parser.add_argument("--full", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        days = _parted(asked.log, asked.days) if asked.log else _drawn(asked)
        workspace = Workspace(f"{place}/workspace")
        for number, rows in enumerate(days):
            log = Path(place) / f"day-{number}.parquet"
            rows.write_parquet(log)
            mapping = LogMapping(
                path=str(log), time_col="timestamp", value_col="rating", max_bad_share=0.5
            )
            first = time.process_time()
            ingest.run(mapping, workspace)
            second = time.process_time()
            with redoing(["build-tasks"] if asked.full else [], ["build-tasks"]):
                built = build_tasks.run(BuildTasksConfig(), workspace)
            third = time.process_time()
            line = {
                "day": number,
                "rows": len(rows),
                "ingest_cpu": round(second - first, 3),
                "build_tasks_cpu": round(third - second, 3),
                "built": built.outputs.built,
            }
            print(json.dumps(line), flush=True)  # noqa: T201


def _parted(path: str, num_days: int) -> list[pl.DataFrame]:
    """Return a log in the order of time, as many rows on each day."""
    rows = pl.read_parquet(path).sort("timestamp", "user_id", "item_id")
    return [
        rows[n * len(rows) // num_days : (n + 1) * len(rows) // num_days] for n in range(num_days)
    ]


def _drawn(asked: argparse.Namespace) -> list[pl.DataFrame]:
    """Return the days of a synthetic log: on each, some users come for a session."""
    rng = np.random.default_rng(0)
    found = []
    sizes = [asked.rows_before] * bool(asked.rows_before) + [asked.rows_a_day] * asked.days
    for number, size in enumerate(sizes):
        whole = number == 0 and asked.rows_before
        visits = rng.integers(0, asked.users, size // asked.session)
        user = np.repeat(visits, asked.session)
        span = 365 * DAY if whole else DAY
        when = (
            START
            + (number + 365) * DAY
            - span
            + np.repeat(rng.integers(0, span, len(visits)), asked.session)
        )
        item = (asked.items * rng.random(len(user)) ** 3).astype(np.int64)
        frame = pl.DataFrame(
            {
                "user_id": pl.Series(user).cast(pl.String),
                "item_id": pl.Series(item).cast(pl.String),
                "timestamp": when + np.tile(np.arange(asked.session), len(visits)) * 30,
                "rating": rng.integers(1, 6, len(user)),
            }
        )
        found.append(frame.unique(["user_id", "item_id", "timestamp"], maintain_order=True))
    return found


if __name__ == "__main__":
    main()
