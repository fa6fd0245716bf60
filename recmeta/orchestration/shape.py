"""Settings of the DAG files, read from the environment while these are parsed.

All other settings are read when a task runs (`recmeta.orchestration.settings`). These three decide
which DAGs there are and which limits Airflow imposes on their tasks, so that every process of
Airflow needs them, and a change takes effect when the files are next parsed.

    RECMETA_WORKSPACES   names of workspaces, each with DAGs of its own    one without a name
    RECMETA_TIME_LIMITS  hours of tasks, as `ingest=6, build-tasks=4`      HOURS
    RECMETA_LATE_AFTER   hours after which a day's run is late             none is ever late
"""

import datetime
import os
import re
from collections.abc import Mapping
from typing import Any

from recmeta.errors import UserError, did_you_mean

WORKSPACES = "RECMETA_WORKSPACES"
TIME_LIMITS = "RECMETA_TIME_LIMITS"
LATE_AFTER = "RECMETA_LATE_AFTER"
HOURS: Mapping[str, float] = {
    "choose-day": 0.5,
    "wait-for-log": 20.0,
    "ingest": 0.5,
    "check-data-quality": 0.5,
    "materialise-features": 0.5,
    "build-tasks": 0.5,
    "find-new-users": 0.5,
    "choose-tasks": 0.5,
    "is-due": 0.5,
    "meta-train": 12.0,
    "evaluate": 2.0,
    "gate": 0.5,
    "register": 0.5,
    "register-challenger": 0.5,
    "choose-model": 0.5,
    "shard-new-users": 0.5,
    "adapt": 0.5,
    "score": 0.5,
    "audit": 0.5,
    "publish": 0.5,
    "expire": 0.5,
    "optimise": 0.5,
    "vacuum": 0.5,
    "drift": 0.5,
    "needs-retraining": 0.5,
    "request-retraining": 0.5,
}
"""The hours after which Airflow ends a task, by its id, unless RECMETA_TIME_LIMITS gives others.
`wait-for-log` occupies no worker meanwhile."""


def workspace_names(env: Mapping[str, str] = os.environ) -> list[str | None]:
    """Return the names of the workspaces; one None where there is one, without a name.

    Raises:
        UserError: for a name with other characters than a-z, 0-9 and _, or twice.
    """
    names = [name for name in re.split(r"[,\s]+", env.get(WORKSPACES, "")) if name]
    for name in names:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise UserError(
                f"{WORKSPACES} has the name {name!r}: use small letters, digits and _, beginning "
                "with a letter."
            )
        if names.count(name) > 1:
            raise UserError(f"{WORKSPACES} has the name {name!r} twice.")
    return [*names] if names else [None]


def time_limit(task: str, env: Mapping[str, str] = os.environ) -> datetime.timedelta:
    """Return how long a task may take.

    Raises:
        UserError: if RECMETA_TIME_LIMITS cannot be understood, or names something that is not a
            task.
    """
    hours = dict(HOURS)
    for entry in filter(None, (e.strip() for e in env.get(TIME_LIMITS, "").split(","))):
        name, _, text = (part.strip() for part in entry.partition("="))
        if name not in HOURS:
            raise UserError(f"{TIME_LIMITS} names {name!r}, no task.{did_you_mean(name, [*HOURS])}")
        hours[name] = _positive(text, f"{TIME_LIMITS} says {entry!r}")
    return datetime.timedelta(hours=hours[task])


def limited(task: str) -> dict[str, Any]:
    """Return the arguments of a task's decorator: its id, and how long it may take."""
    return {"task_id": task, "execution_timeout": time_limit(task)}


def late_after(env: Mapping[str, str] = os.environ) -> datetime.timedelta | None:
    """Return how long after it was queued a run that a day's lists need counts as late; None if
    never.

    Raises:
        UserError: if RECMETA_LATE_AFTER is not a number of hours.
    """
    text = env.get(LATE_AFTER)
    if not text:
        return None
    return datetime.timedelta(hours=_positive(text, f"{LATE_AFTER} is {text!r}"))


def _positive(text: str, where: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0 < hours < 24 * 366:
        raise UserError(f"{where}; it must be a number of hours, such as 6 or 0.5.")
    return hours
