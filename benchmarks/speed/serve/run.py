"""Load tests of the endpoint, each with a server and a load generator in processes of their own."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.speed.melu_shape import MeluShape
from benchmarks.speed.processes import drive, environment
from benchmarks.speed.result import BenchmarkResult, Row, machine
from benchmarks.speed.serve.models import model_of
from recmeta.errors import UserError

LEARNERS = ("bayesian-linear", "maml")
RATES = (100, 200, 400)
LOAD = "benchmarks.speed.serve.load"
FEW = 10
"""The number of ratings of a user."""
NUM_USERS = 500
WARM_SECONDS = 2.0
START_SECONDS = 120.0
SHED = ("429", "503")


def run(
    learners: Sequence[str] = LEARNERS,
    rates: Sequence[int] = RATES,
    seconds: float = 10.0,
    max_reasons: Sequence[int] = (0, 3),
) -> BenchmarkResult:
    """Measure throughput, latencies and sheds.

    Args:
        learners: the learners whose models answer, one after the other.
        rates: requests a second.
        seconds: the duration of each load.
        max_reasons: reasons that each request asks for.
    """
    shapes = {learner: model_of(learner) for learner in learners}
    about = machine("torch", "fastapi", "uvicorn", "pydantic")
    rows: list[Row] = []
    for learner, shape in shapes.items():
        with served(learner) as (port, _):
            for reasons in max_reasons:
                bodies = bodies_of(shape, reasons)
                load = {"port": port, "bodies": bodies}
                drive(LOAD, {**load, "rate": 50, "seconds": WARM_SECONDS})
                for rate in rates:
                    found = drive(LOAD, {**load, "rate": rate, "seconds": seconds})
                    rows.append(
                        {
                            "model": learner,
                            "reasons": reasons,
                            "rate": rate,
                            **_row(found),
                            "items": shape.model.catalogue.num_items,
                            "source": shape.source,
                        }
                    )
    return BenchmarkResult(
        name="serve",
        title=f"The endpoint under load: users with {FEW} ratings, {rows[0]['items']:,} items",
        columns=(
            "model",
            "reasons",
            "rate",
            "answers_per_second",
            "p50_ms",
            "p95_ms",
            "p99_ms",
            "shed",
        ),
        rows=rows,
        machine=about,
    )


def _row(found: dict[str, Any]) -> Row:
    times = found["latency_ms"]
    total = sum(found["statuses"].values())
    if wrong := set(found["statuses"]) - {"200", *SHED}:
        raise UserError(f"the server answered with {', '.join(sorted(wrong))}.")
    p50, p95, p99 = np.percentile(times, [50, 95, 99]) if times else (None, None, None)
    return {
        "answers_per_second": len(times) / found["seconds"],
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "shed": total - len(times),
        "requests": total,
        "statuses": found["statuses"],
        "p99_late_ms": found["p99_late_ms"],
    }


def bodies_of(shape: MeluShape, max_reasons: int) -> list[dict[str, Any]]:
    """Return requests of users with a few ratings and their profile."""
    few = shape.tasks.take(np.arange(NUM_USERS)).with_shots(FEW)
    ids = shape.model.catalogue.items.item_id.to_pylist()
    known = [field.name for field in shape.model.encoder.user_fields]
    profiles = few.profile.select(known).to_pylist()
    bodies = []
    for user, profile in enumerate(profiles):
        rows = slice(int(few.support.offsets[user]), int(few.support.offsets[user + 1]))
        pairs = zip(few.support.item[rows].tolist(), few.support.value[rows].tolist(), strict=True)
        interactions = [{"item_id": ids[item], "value": value} for item, value in pairs]
        bodies.append(
            {"interactions": interactions, "profile": profile, "max_reasons": max_reasons}
        )
    return bodies


@contextlib.contextmanager
def served(learner: str, **limits: float) -> Iterator[tuple[int, int]]:
    """Run a server; yield its port and the number of its process.

    Args:
        limits: values of `EndpointConfig`.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.speed.serve.server"]
    server = subprocess.Popen(
        [*command, learner, str(port), json.dumps(limits)],
        env=environment(1),
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(server, f"http://127.0.0.1:{port}/readyz")
        yield port, server.pid
    finally:
        server.terminate()
        server.wait(60)


def _wait(server: "subprocess.Popen[bytes]", url: str) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(url):
            return
        time.sleep(0.2)
    raise UserError("the server of the load test does not start: is the extra `serve` installed?")
