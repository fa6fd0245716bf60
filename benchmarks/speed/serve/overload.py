"""The endpoint under more requests than it can answer, for a long time."""

import contextlib
import json
import threading
import time
import urllib.request
from collections.abc import Sequence
from typing import Any

import numpy as np
import psutil

from benchmarks.speed.processes import drive
from benchmarks.speed.result import BenchmarkResult, machine
from benchmarks.speed.serve.models import model_of
from benchmarks.speed.serve.run import FEW, bodies_of, served

CLIENTS = "benchmarks.speed.serve.clients"
REASONS = 3
BEFORE = ((1, 5.0), (16, 15.0))
"""Clients, and for how many seconds: one alone, and so many that the server is busy and not
overloaded. The many are compared with both, in the same state of the machine."""
PROBE_SECONDS = 0.25
WARM = 0.2
"""The share of the time before memory is measured."""
BLOCKS = 20
"""The number of blocks into which the rest is divided, because memory at neighbouring times is
correlated."""
ANY_RATE = {"requests_per_second": 1e6, "burst": 1_000_000}
"""The limits of a key, so high that the queue and not a key's rate is measured."""


def run(
    clients: int = 128, minutes: float = 30.0, *, learner: str = "bayesian-linear"
) -> BenchmarkResult:
    """Measure latencies, sheds, probes and memory, and check the answers.

    Args:
        clients: each asks again as soon as it has an answer, or is refused.
        minutes: how long they do.
        learner: the learner whose model answers.
    """
    shape = model_of(learner)
    bodies = bodies_of(shape, REASONS)
    rows = []
    with served(learner, **ANY_RATE) as (port, process):
        expected = [_answer(port, body) for body in bodies]
        for number, seconds in (*BEFORE, (clients, 60.0 * minutes)):
            with _Watch(port, process) as watch:
                settings: dict[str, Any] = {"clients": number, "seconds": seconds}
                settings |= {"port": port, "bodies": bodies, "expected": expected}
                found = drive(CLIENTS, settings)
            statuses = found.pop("statuses")
            answers = statuses.get("200", 0)
            rows.append(
                {
                    "clients": number,
                    "answers_per_second": answers / found["seconds"],
                    "shed_per_second": (sum(statuses.values()) - answers) / found["seconds"],
                    "statuses": statuses,
                    **found,
                    **watch.to_dict(),
                    "source": shape.source,
                }
            )
    items = shape.model.catalogue.num_items
    return BenchmarkResult(
        name="overload",
        title=f"The endpoint under overload: users with {FEW} ratings, {REASONS} reasons, "
        f"{items:,} items",
        columns=(
            "clients",
            "seconds",
            "answers_per_second",
            "shed_per_second",
            "p50_ms",
            "p99_ms",
            "shed_p50_ms",
            "probe_p99_ms",
            "checked",
            "wrong",
            "megabytes",
            "megabytes_per_hour",
            "plus_or_minus",
        ),
        rows=rows,
        machine=machine("torch", "fastapi", "uvicorn", "httptools", "pydantic"),
    )


class _Watch:
    """Asks /livez with new connections, and looks at the server's memory."""

    def __init__(self, port: int, process: int) -> None:
        self._url = f"http://127.0.0.1:{port}/livez"
        self._process = psutil.Process(process)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._probes: list[float] = []
        self._memory: list[tuple[float, float]] = []

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def to_dict(self) -> dict[str, float]:
        """Return the probes' 99th percentile, memory, and its slope with a 95% interval."""
        slope, error = _slope(self._memory)
        return {
            "probe_p99_ms": float(np.percentile(self._probes, 99)) * 1e3,
            "megabytes": self._memory[-1][1],
            "megabytes_per_hour": slope * 3_600,
            "plus_or_minus": error * 3_600,
        }

    def _look(self) -> None:
        while not self._stop.wait(PROBE_SECONDS):
            started = time.perf_counter()
            with contextlib.closing(urllib.request.urlopen(self._url, timeout=30)) as answer:
                answer.read()
            ended = time.perf_counter()
            self._probes.append(ended - started)
            about = self._process.memory_info()
            # Without files that are mapped: the system lets go of those when others need memory.
            own = about.rss - getattr(about, "shared", 0)
            self._memory.append((ended, own / 1e6))


def _slope(memory: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the slope of a line through the means of blocks, and half its 95% interval."""
    kept = np.array(memory[int(WARM * len(memory)) :])
    blocks = np.array([block.mean(axis=0) for block in np.array_split(kept, BLOCKS) if len(block)])
    at, value = blocks[:, 0] - blocks[:, 0].mean(), blocks[:, 1]
    slope = float(at @ value / (at @ at))
    rest = value - value.mean() - slope * at
    error = float(np.sqrt(rest @ rest / max(1, len(at) - 2) / (at @ at)))
    return slope, 2.1 * error  # Student's t for 18 degrees of freedom


def _answer(port: int, body: dict[str, Any]) -> Any:
    """Return the answer of an idle server."""
    url = f"http://127.0.0.1:{port}/v1/recommendations"
    asked = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.load(answer)
