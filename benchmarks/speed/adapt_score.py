"""Cold-start scoring: from new users' ratings to each user's ten best items of MovieLens 1M.

It is measured in batch, from tasks to lists, and for one user at a time, from a request to a list.

Legend: B users.
"""

import contextlib
import functools
import gc
import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.speed.melu_shape import melu_shape
from benchmarks.speed.processes import measure_alone
from benchmarks.speed.result import BenchmarkResult, OnRow, Row, machine, unheard
from benchmarks.speed.roofline import Products, roofline, wait_for
from recmeta.metalearn.model import Model
from recmeta.metalearn.numerics.threads import one_thread
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.intake import GivenUser, Intake
from recmeta.serving.ranking import RankedLists, Ranker, ScoringConfig, adapt_users
from recmeta.tasks.task_set import Tasks

FEW = 10
"""The number of ratings of a new user."""
NUM_USERS, FEW_USERS = 1_024, 16
NUM_REQUESTS = 2_000
NUM_WARM_UP = 100
FLOOR_EVERY = 4
"""The number of requests after which the matrix products of one are measured by themselves."""


def run(
    threads: tuple[int, ...] = (1, 2),
    seconds: float = 4.0,
    device: str = "cpu",
    on_row: OnRow = unheard,
    *,
    quick: bool = False,
) -> BenchmarkResult:
    """Measure users per second in batch, and the latency of single users.

    Args:
        threads: each measurement runs with each of these.
        seconds: about how long each batch measurement takes.
        device: the device.
        quick: whether to use only a few users and requests, to see that it runs.
    """
    about = machine("torch", "numpy", "pyarrow")
    size = {"users": FEW_USERS, "requests": FEW_USERS} if quick else {}
    rows: list[Row] = []
    for number in threads:
        asked = {"threads": number, "seconds": seconds, "device": device, **size}
        for row in measure_alone(__name__, asked, threads=number):
            on_row(row)
            rows.append(row)
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
            "products_p50_ms",
            "products_p99_ms",
        ),
        rows=rows,
        machine=about,
    )


def measure(
    threads: int,
    seconds: float,
    device: str = "cpu",
    users: int = NUM_USERS,
    requests: int = NUM_REQUESTS,
) -> list[dict[str, Any]]:
    """Return the rows for one number of threads; runs in a process of its own."""
    shape = melu_shape(device=device)
    config = ScoringConfig()
    common = {
        "threads": threads,
        "items": shape.model.catalogue.num_items,
        "source": shape.source,
        "list_length": config.top_k,
    }
    tasks = shape.tasks.take(np.arange(users))
    few = tasks.with_shots(FEW)
    ranker = Ranker(Scorer.of(shape.model), config)
    rows = [
        {"name": name} | _in_batches(ranker, some, seconds)
        for name, some in ((f"batch, {FEW} ratings", few), ("batch, all", tasks))
    ]
    single = _one_at_a_time(shape.model, few, config, requests)
    rows.append({"name": f"one at a time, {FEW} ratings"} | single)
    return [row | common for row in rows]


def _in_batches(ranker: Ranker, tasks: Tasks, seconds: float) -> dict[str, Any]:
    """Return the speed of many users at a time."""
    size = ranker.config.user_batch
    times: list[float] = []
    while len(times) < 2 or sum(times) < seconds:
        start = time.perf_counter()
        for batch in tasks.batches(size):
            _lists(ranker, batch)
        times.append(time.perf_counter() - start)
    speed = len(tasks) / min(times)
    first = next(iter(tasks.batches(size)))
    ceiling = roofline(functools.partial(_lists, ranker, first), ranker.model.device)
    ratings = float(tasks.support.lengths.mean())
    return {
        "users_per_second": speed,
        "ratings": ratings,
        **ceiling.to_dict(len(first), speed),
    }


def _one_at_a_time(
    model: Model, tasks: Tasks, config: ScoringConfig, requests: int
) -> dict[str, Any]:
    """Return the latencies of single users, answered as the endpoint answers them: what they sent
    is checked, they are adapted and the catalogue is ranked, without speaking HTTP.

    Between requests, the matrix products of one are measured by themselves: their median and worst
    times are a floor.
    """
    ranker, intake = Ranker(Scorer.of(model).ready(), config), Intake(model)
    given = given_users(model, tasks)
    _lists(ranker, intake.tasks(given[:1]))  # prepares the catalogue, once
    with Products() as products:
        _lists(ranker, intake.tasks(given[:1]))
    seconds, floor = [], []
    with _frozen():
        for request in range(NUM_WARM_UP + requests):
            user = given[request % len(given)]
            begun = time.perf_counter()
            intake.check(user)
            _lists(ranker, intake.tasks([user]))
            seconds.append(time.perf_counter() - begun)
            if request % FLOOR_EVERY == 0:
                begun = time.perf_counter()
                with one_thread(True):
                    products.compute()
                wait_for(model.device)
                floor.append(time.perf_counter() - begun)
    whole_ms = np.array(seconds[NUM_WARM_UP:]) * 1e3
    products_ms = np.array(floor[NUM_WARM_UP // FLOOR_EVERY :]) * 1e3
    p50, p99 = np.percentile(whole_ms, [50, 99])
    floor_p50, floor_p99 = np.percentile(products_ms, [50, 99])
    return {
        "users_per_second": 1e3 / float(np.mean(whole_ms)),
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "products_p50_ms": float(floor_p50),
        "products_p99_ms": float(floor_p99),
    }


def given_users(model: Model, tasks: Tasks) -> list[GivenUser]:
    """Return the tasks' users as a request would describe them."""
    support = tasks.support
    item_id = model.catalogue.items.item_id.take(pa.array(support.item)).to_pylist()
    profiles = tasks.profile.select([f.name for f in model.encoder.user_fields]).to_pylist()
    places = [slice(*ends) for ends in itertools.pairwise(support.offsets.tolist())]
    return [
        GivenUser(
            item_id=tuple(item_id[place]),
            value=tuple(support.value[place].tolist()),
            time=(None,) * (place.stop - place.start),
            profile=profile,
        )
        for place, profile in zip(places, profiles, strict=True)
    ]


@contextlib.contextmanager
def _frozen() -> Iterator[None]:
    """Exclude existing objects from garbage collection, as the endpoint does."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _lists(ranker: Ranker, tasks: Tasks) -> RankedLists:
    return ranker.rank(adapt_users(ranker.scorer, tasks))
