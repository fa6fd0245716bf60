"""What a version's page in MLflow says: the decision, why, metrics beside baselines, data."""

from collections.abc import Mapping, Sequence
from typing import Any

MAX_METRICS = 6
"""Columns of the table; the others are in the run's `evaluation/` artifacts."""


def describe(
    *,
    decision: str,
    reasons: Sequence[str],
    compared_with: str | None,
    evaluation: Mapping[str, Any],
    data_versions: Mapping[str, str],
    report: str,
) -> str:
    """Return Markdown.

    Args:
        decision: promoted, refused or forced.
        compared_with: the version that it had to beat, if any.
        evaluation: of evaluation.json, `metrics` and, where they are there, `primary_metric` and
            `num_users`.
        data_versions: what the training read, name to version.
        report: where the whole report is, relative to the workspace.
    """
    against = "no earlier version" if compared_with is None else f"version {compared_with}"
    users = evaluation.get("num_users")
    on = "" if users is None else f", on {users} held-out users"
    lines = [f"**{decision.capitalize()}**, compared with {against}{on}.", ""]
    lines += [f"- {reason}" for reason in reasons]
    lines += ["", *_table(evaluation), ""]
    if data_versions:
        read = ", ".join(f"{name} {version}" for name, version in sorted(data_versions.items()))
        lines += [f"Trained on: {read}.", ""]
    lines.append(f"Report: `{report}` in the workspace, `evaluation/` in the training's run.")
    return "\n".join(lines)


def _table(evaluation: Mapping[str, Any]) -> list[str]:
    metrics: Mapping[str, Mapping[str, float | None]] = evaluation["metrics"]
    names = sorted({name for found in metrics.values() for name in found})
    primary = evaluation.get("primary_metric")
    if primary in names:
        names = [primary, *(name for name in names if name != primary)]
    names = names[:MAX_METRICS]
    rows = [["model", *names], ["---"] + ["---:"] * len(names)]
    rows += [[model, *(_cell(found.get(n)) for n in names)] for model, found in metrics.items()]
    return ["| " + " | ".join(row) + " |" for row in rows]


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
