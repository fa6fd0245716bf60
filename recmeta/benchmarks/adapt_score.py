"""Cold-start scoring: new users' ratings in, each one's ten best items of MovieLens 1M out.

In batch, and one user at a time: from a table of ratings to a list, with everything in between.

Legend: B users.
"""

import functools
import time
from typing import Any

import numpy as np
import pyarrow as pa

from recmeta import schema
from recmeta.benchmarks.melu_shape import melu_shape
from recmeta.benchmarks.processes import measure_alone
from recmeta.benchmarks.result import BenchmarkResult, machine
from recmeta.benchmarks.roofline import roofline
from recmeta.serving.new_users import tasks_for_new_users
from recmeta.serving.ranking import RankedLists, Ranker, ScoringConfig, adapt_users
from recmeta.tasks.task_set import Tasks

FEW = 10
"""Ratings of a user who is new."""
NUM_USERS = 1_024
NUM_REQUESTS = 600


def run(
    threads: tuple[int, ...] = (1, 2), seconds: float = 4.0, device: str = "cpu"
) -> BenchmarkResult:
    """Measure users per second in batch, and the latency of single users.

    Args:
        threads: each measurement runs with each of these.
        seconds: about how long each batch measurement takes.
        device: where.
    """
    about = machine("torch", "numpy", "pyarrow")
    rows: list[dict[str, Any]] = []
    for number in threads:
        asked = {"threads": number, "seconds": seconds, "device": device}
        rows += measure_alone(__name__, asked, threads=number)
    return BenchmarkResult(
        name="adapt-score",
        title=f"Adapt to new users and rank {rows[0]['items']:,} items ({rows[0]['source']})",
        columns=(
            "name",
            "threads",
            "users_per_second",
            "share_of_ceiling",
            "p50_ms",
            "p99_ms",
        ),
        rows=rows,
        machine=about,
    )


def measure(threads: int, seconds: float, device: str = "cpu") -> list[dict[str, Any]]:
    """Return the rows for one number of threads; runs in a process of its own."""
    shape = melu_shape(device=device)
    config = ScoringConfig()
    ranker = Ranker(shape.model, config)
    common = {
        "threads": threads,
        "items": shape.model.catalogue.num_items,
        "source": shape.source,
        "list_length": config.top_k,
    }
    rows = []
    tasks = shape.tasks.take(np.arange(NUM_USERS))
    for name, some in ((f"batch, {FEW} ratings", tasks.with_shots(FEW)), ("batch, all", tasks)):
        times: list[float] = []
        while len(times) < 2 or sum(times) < seconds:
            start = time.perf_counter()
            for batch in some.batches(config.user_batch):
                _lists(ranker, batch)
            times.append(time.perf_counter() - start)
        ratings = float(some.support.lengths.mean())
        speed = NUM_USERS / min(times)
        first = next(iter(some.batches(config.user_batch)))
        ceiling = roofline(functools.partial(_lists, ranker, first), shape.model.device)
        row = {"name": name, "users_per_second": speed, "ratings": ratings, **common}
        rows.append(row | ceiling.to_dict(len(first), speed))

    few = tasks.with_shots(FEW)
    support = few.support
    user_id = np.array(few.user_id)
    latencies = []
    for request in range(NUM_REQUESTS + 20):
        user = request % NUM_USERS
        place = slice(int(support.offsets[user]), int(support.offsets[user + 1]))
        table = pa.table(
            {
                schema.USER_ID: np.repeat(user_id[user], place.stop - place.start),
                schema.ITEM_ID: shape.model.catalogue.items.item_id.take(
                    pa.array(support.item[place])
                ),
                schema.VALUE: support.value[place],
            }
        )
        profile = few.profile.slice(user, 1)
        start = time.perf_counter()
        found, _ = tasks_for_new_users(shape.model, table, profile)
        _lists(ranker, found)
        latencies.append((time.perf_counter() - start) * 1e3)
    p50, p99 = np.percentile(latencies[20:], [50, 99])
    single = {"name": f"one at a time, {FEW} ratings", "p50_ms": float(p50), "p99_ms": float(p99)}
    rows.append({**single, "users_per_second": 1e3 / float(np.mean(latencies[20:])), **common})
    return rows


def _lists(ranker: Ranker, tasks: Tasks) -> RankedLists:
    return ranker.rank(adapt_users(ranker.model, tasks))
