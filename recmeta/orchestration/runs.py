"""What all runs have in common: retries, what happens on failure, and the day they are about."""

import datetime
import logging
from typing import Any

from airflow.sdk import Asset, Context, ExceptionRetryPolicy, RetryAction, RetryRule

from recmeta.errors.causes import explained
from recmeta.errors.secrets import masked
from recmeta.orchestration.settings import workspace

logger = logging.getLogger(__name__)


def explain(context: Context) -> None:
    """Say in the task's log what an error comes from, and what to do, where that is recognised."""
    error = context.get("exception")
    why = explained(error) if isinstance(error, BaseException) else None
    if why is not None:
        logger.error(why)


def record_failure(context: Context) -> None:
    """Say what failed for good, in the log and in a file of the workspace's folder `alerts`."""
    error = context.get("exception")
    why = explained(error) if isinstance(error, BaseException) else None
    ti, run = context["ti"], context["dag_run"]
    alert = {
        "dag": ti.dag_id,
        "task": ti.task_id,
        "map_index": ti.map_index,
        "run": run.run_id,
        "partition": run.partition_key,
        "try": ti.try_number,
        "error": masked(str(error)) if why is None else why,
        "at": datetime.datetime.now(datetime.UTC).isoformat(),
    }
    logger.error("%(dag)s.%(task)s failed for good in %(run)s: %(error)s", alert)
    name = f"{ti.dag_id}-{run.run_id}-{ti.task_id}-{ti.map_index}"
    plain = "".join(c if c.isalnum() else "-" for c in name)
    (workspace() / "alerts").write_json(f"{plain}.json", alert)


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
                reason="It will not mend itself: the message says what to do.",
            )
        ]
    ),
    "execution_timeout": datetime.timedelta(minutes=30),
    "on_retry_callback": explain,
    "on_failure_callback": record_failure,
}


def day_of(context: Context) -> datetime.date | None:
    """Return the day that a run is about: its param, else its partition, else None."""
    from recmeta.logs.reading.partitions import parse_day

    text = context["params"].get("date") or context["dag_run"].partition_key
    return parse_day(text) if text else None


def log_progress(step: str, done: int, total: int) -> None:
    """Write how far a step has come to the task's log."""
    logger.info("%s: %d of %d", step, done, total)


def announce(outlet_events: Any, asset: Asset, day: str, **extra: Any) -> None:
    """Give an outlet's event the day as its partition, and what those who follow it need to know.

    A run that was triggered by hand has no partition; DAGs that follow partitions would not see
    its events without this.
    """
    outlet_events[asset].add_partitions(day)
    outlet_events[asset].extra = extra
