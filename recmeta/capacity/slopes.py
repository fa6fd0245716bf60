"""What each step takes as its input grows, fitted to runs of a few sizes.

A step's processor time and disk are taken to be a fixed part and one that grows in proportion to
what drives the step: rows of the log, or, where lists are made, users times items. Each is a line
through runs of smaller logs, which is the weakest assumption of a prediction: see docs/scale.md.
Memory is fitted to runs on millions of rows; on small logs it is that of buffers, and says nothing.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import numpy as np

from recmeta.evaluation.drawn_users import MOST_ROWS

INGEST_MEMORY: Final = 2 * 2**30
"""Bytes that an ingest keeps to, whatever the size of the log, unless `--memory` says otherwise."""
Step = Literal["ingest", "build-tasks", "meta-train", "evaluate", "score"]
STEPS: Final[tuple[Step, ...]] = ("ingest", "build-tasks", "meta-train", "evaluate", "score")
OF_DATA: Final[tuple[Step, ...]] = ("ingest", "build-tasks")
"""Those that are measured on large logs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """How much there is."""

    rows: float
    """Interactions."""
    users: float
    """Who have them."""
    items: float
    scored: float
    """Users who get a list."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What one step took, once."""

    size: Size
    cpu_seconds: float
    """Of all threads."""
    memory_bytes: float
    """The most that its process held."""
    disk_bytes: float
    """That it left in the workspace."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """A quantity as a fixed part and one in proportion to something."""

    fixed: float
    each: float

    @classmethod
    def through(cls, driver: Sequence[float], quantity: Sequence[float]) -> "Line":
        """Return the line of least squares whose slope and whose value at 0 are not negative."""
        x, y = np.asarray(driver, np.float64), np.asarray(quantity, np.float64)
        spread = x - x.mean()
        each = max(0.0, float(spread @ y) / max(float(spread @ spread), 1e-300))
        fixed = float(y.mean() - each * x.mean())
        if fixed < 0:
            return cls(fixed=0.0, each=float(x @ y) / float(x @ x))
        return cls(fixed=fixed, each=each)

    def at(self, driver: float) -> float:
        """Return the quantity."""
        return self.fixed + self.each * driver


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepSlopes:
    """How what a step takes grows with `driver`."""

    cpu_seconds: Line
    disk_bytes: Line
    memory_bytes: Line | None
    """None where it is not known."""
    largest_rows: float
    """Rows of the largest log that was measured."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slopes:
    """What every step takes on one machine."""

    machine: str
    """Processor, cores and memory."""
    measured_on: str
    """Date, and the version of recmeta."""
    steps: dict[str, StepSlopes]

    def __post_init__(self) -> None:
        missing = [step for step in STEPS if step not in self.steps]
        if missing:
            raise ValueError(f"it says nothing of the step {missing[0]}")


def driver(step: Step, size: Size) -> float:
    """Return what a step's time grows with: rows, or scores of one user for one item. An evaluation
    takes no more than that of a log of `MOST_ROWS`, because it draws users (`drawn_users`)."""
    if step == "score":
        return size.scored * size.items
    return min(size.rows, MOST_ROWS) if step == "evaluate" else size.rows


def fitted(step: Step, runs: Sequence[Run], large: Sequence[Run] = ()) -> StepSlopes:
    """Fit a step's slopes to its runs, of at least two sizes.

    Args:
        large: runs on millions of rows, which say how memory grows; if there are none, that is not
            known.
    """
    drivers = [driver(step, run.size) for run in runs]
    rows = [run.size.rows for run in runs]
    lists = [run.size.scored for run in runs]
    return StepSlopes(
        cpu_seconds=Line.through(drivers, [run.cpu_seconds for run in runs]),
        disk_bytes=Line.through(
            lists if step == "score" else rows, [run.disk_bytes for run in runs]
        ),
        memory_bytes=Line.through(
            [run.size.rows for run in large], [run.memory_bytes for run in large]
        )
        if large
        else None,
        largest_rows=max(rows),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machines:
    """What the steps run on."""

    workers: int = 1
    """Processes of a machine that train together, or make lists."""
    machines: int = 1
    """That make lists, by Ray. All other steps run on one."""
    price_per_hour: float = 0.0
    """Of one machine, in any currency."""
    training_efficiency: float = 0.65
    """Of each further process in training, as docs/scale.md measures it by the clock."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predicted:
    """What a step is to take."""

    step: str
    cpu_hours: float
    hours: float
    """By the clock, where its processes have a core each and nothing waits for the disk."""
    memory_gb: float | None
    """Of one process, 10^9 bytes; None where it is not known."""
    disk_gb: float
    cost: float


def predict(slopes: Slopes, size: Size, machines: Machines) -> list[Predicted]:
    """Return what each step takes of a log of a size."""
    found = []
    for step in STEPS:
        slope = slopes.steps[step]
        cpu_hours = slope.cpu_seconds.at(driver(step, size)) / 3600
        num_machines = machines.machines if step == "score" else 1
        hours = cpu_hours / _speed_up(step, machines)
        memory = None if slope.memory_bytes is None else slope.memory_bytes.at(size.rows)
        if memory is not None and step == "ingest":
            memory = min(memory, INGEST_MEMORY)
        disk = slope.disk_bytes.at(size.scored if step == "score" else driver(step, size))
        found.append(
            Predicted(
                step=step,
                cpu_hours=cpu_hours,
                hours=hours,
                memory_gb=None if memory is None else memory / 1e9,
                disk_gb=disk / 1e9,
                cost=hours * num_machines * machines.price_per_hour,
            )
        )
    return found


def total(steps: Sequence[Predicted]) -> Predicted:
    """Return what all steps take, one after the other: the most memory that is known."""
    return Predicted(
        step="all",
        cpu_hours=sum(step.cpu_hours for step in steps),
        hours=sum(step.hours for step in steps),
        memory_gb=max(step.memory_gb for step in steps if step.memory_gb is not None),
        disk_gb=sum(step.disk_gb for step in steps),
        cost=sum(step.cost for step in steps),
    )


def _speed_up(step: Step, machines: Machines) -> float:
    """Return how many times faster than one process a step is."""
    if step == "score":
        return machines.workers * machines.machines
    if step == "meta-train":
        return 1 + (machines.workers - 1) * machines.training_efficiency
    return 1


def fit_all(
    machine: str,
    measured_on: str,
    runs: Mapping[str, Sequence[Run]],
    large: Mapping[str, Sequence[Run]],
) -> Slopes:
    """Fit the slopes of every step.

    Args:
        large: runs on millions of rows, by step, which say how memory grows.
    """
    steps: dict[str, StepSlopes] = {
        step: fitted(step, runs[step], large.get(step, ())) for step in STEPS
    }
    return Slopes(machine=machine, measured_on=measured_on, steps=steps)
