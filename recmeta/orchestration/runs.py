"""What all runs have in common: retries, messages, and the day that they are about."""

import datetime
import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import (  # type: ignore[attr-defined]
    Asset,
    AsyncCallback,
    Context,
    DeadlineAlert,
    DeadlineReference,
    ExceptionRetryPolicy,
    RetryAction,
    RetryRule,
)

from recmeta.errors.causes import explained
from recmeta.errors.secrets import masked
from recmeta.orchestration import alerts
from recmeta.orchestration.shape import late_after

if TYPE_CHECKING:
    from recmeta.manifest import Manifest
    from recmeta.steps.learning.evaluate import EvaluateOutputs

logger = logging.getLogger(__name__)
PROGRESS_SECONDS = 15.0
"""Seconds between two lines of a task's log that report a step's progress."""


def explain(context: Context) -> None:
    """Log the cause of an error, and what to do, if it is recognised."""
    error = context.get("exception")
    why = explained(error) if isinstance(error, BaseException) else None
    if why is not None:
        logger.error(why)


def record_failure(context: Context) -> None:
    """Send an alert for a task that failed for good: see `recmeta.orchestration.alerts`."""
    error = context.get("exception")
    why = explained(error) if isinstance(error, BaseException) else None
    ti = context["ti"]
    what = masked(str(error)) if why is None else why
    logger.error("%s.%s failed for good.", ti.dag_id, ti.task_id)
    alerts.tell(alerts.failed(context, what))


DEFAULT_ARGS: dict[str, Any] = {
    "owner": "recmeta",
    "retries": 3,
    "retry_delay": datetime.timedelta(seconds=10),
    "retry_exponential_backoff": 3,
    "max_retry_delay": datetime.timedelta(minutes=10),
    "retry_policy": ExceptionRetryPolicy(
        rules=[
            RetryRule(
                exception="recmeta.errors.UserError",
                action=RetryAction.FAIL,
                reason="A retry will not help: the message says what to do.",
            )
        ]
    ),
    "on_retry_callback": explain,
    "on_failure_callback": record_failure,
}


def deadline() -> DeadlineAlert | None:
    """Return how long after it was queued Airflow reports a run as late; None if that is not set
    (RECMETA_LATE_AFTER)."""
    interval = late_after()
    if interval is None:
        return None
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=interval,
        callback=AsyncCallback(alerts.late),
    )


def day_of(context: Context) -> datetime.date | None:
    """Return the day that a run is about: its param, otherwise its partition, otherwise None."""
    from recmeta.logs.reading.partitions import parse_day

    text = context["params"].get("date") or context["dag_run"].partition_key
    return parse_day(text) if text else None


class _Progress:
    """Writes a step's progress to the task's log, no more often than somebody reads it."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def __call__(self, step: str, done: int, total: int) -> None:
        """Take a step's progress."""
        now = time.monotonic()
        if done >= total or now - self._told.get(step, -math.inf) >= PROGRESS_SECONDS:
            logger.info("%s: %d of %d", step, done, total)
            self._told[step] = now


log_progress = _Progress()


def recorded(done: "Manifest[Any]", read: Sequence[str] = ()) -> str:
    """Log what a step did, emit it as lineage, and return its key.

    Args:
        read: places of the logs that it read.
    """
    from recmeta.orchestration.lineage import emit

    how = "was done before, to the same end" if done.reused else f"took {done.seconds:.1f} s"
    log_counts(done.step, done.counts)
    logger.info("It %s; its key is %s.", how, done.key)
    emit(done, read)
    return done.key


def log_counts(what: str, counts: Mapping[str, float]) -> None:
    """Log the counts in one line."""
    words = (f"{number:,} {name.replace('_', ' ')}" for name, number in counts.items())
    logger.info("%s: %s.", what, ", ".join(words) or "done")


def log_evaluation(done: "Manifest[EvaluateOutputs]") -> None:
    """Log the metrics of the candidate and of the predictors that it is compared with, and the
    gate's decision."""
    from recmeta.orchestration.settings import workspace
    from recmeta.workspace import sealed

    folder = sealed(workspace() / done.outputs.report)
    found, decision = folder.read_json("evaluation.json"), folder.read_json("decision.json")
    metric = found["primary_metric"]
    for name, metrics in found["intervals"].items():
        value = metrics.get(metric)
        if value is not None:
            interval = f"({value['ci_low']:.4f} to {value['ci_high']:.4f})"
            mark = ", the candidate" if name == found["candidate"] else ""
            logger.info("%s of %s%s: %.4f %s", metric, name, mark, value["mean"], interval)
    logger.info("The gate %s.", "lets it pass" if decision["promoted"] else "refuses it")
    for reason in decision["reasons"]:
        logger.info(reason)


def tell_of_refusal(context: Context, version: str, evaluated: "Manifest[EvaluateOutputs]") -> None:
    """Alert operators that the gate refused a model, and why."""
    from recmeta.orchestration.settings import workspace
    from recmeta.workspace import sealed

    decision = sealed(workspace() / evaluated.outputs.report).read_json("decision.json")
    alerts.tell(alerts.refused(context, version, decision["reasons"]))


def announce(outlet_events: Any, asset: Asset, day: str, **extra: Any) -> None:
    """Give an outlet's event the day as its partition, and the values that its followers need.

    A run that was triggered by hand has no partition; DAGs that follow partitions would not see
    its events without this.
    """
    outlet_events[asset].add_partitions(day)
    outlet_events[asset].extra = extra
