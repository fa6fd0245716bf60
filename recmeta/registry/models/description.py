"""The text of a version's page in MLflow: the decision, its reasons, metrics beside baselines,
data."""

from collections.abc import Mapping, Sequence
from typing import Any

from recmeta.markup import inline
from recmeta.registry.tracking import mlflow_name

TELLING = ("mae", "rmse", "ndcg@5", "ndcg@10", "full_ndcg@10", "full_hit@10")
"""The metrics that are shown first, after the primary metric."""
MAX_METRICS = 6
"""The number of columns of the table. The other metrics are in the run's `evaluation/`
artifacts."""


def describe(
    *,
    decision: str,
    reasons: Sequence[str],
    compared_with: str | None,
    evaluation: Mapping[str, Any],
    data: str,
    features: str,
    promoted_by: str | None,
    report: str,
) -> str:
    """Return Markdown.

    Args:
        decision: promoted, refused or forced.
        compared_with: the version that it had to beat, if any.
        evaluation: from evaluation.json, `metrics` and, if they are there, `primary_metric` and
            `num_users`.
        data: the versions of the tables that the training read.
        features: the feature service and the features that the model reads.
        promoted_by: who made it champion, if it was promoted.
        report: where the whole report is, relative to the workspace.
    """
    against = "no earlier version" if compared_with is None else f"version {compared_with}"
    users = evaluation.get("num_users")
    on = "" if users is None else f", on {users} held-out users"
    by = "" if promoted_by is None else f" by {inline(promoted_by)}"
    lines = [f"**{decision.capitalize()}**{by}, compared with {against}{on}.", ""]
    lines += [f"- {reason}" for reason in reasons]
    lines += ["", *table(evaluation), ""]
    lines += [f"Trained on: {data}.", "", f"Features: {features}.", ""]
    lines.append(f"Report: `{report}` in the workspace, `evaluation/` in the training's run.")
    return "\n".join(lines)


def table(evaluation: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table with a row per predictor, the primary metric first.

    Args:
        evaluation: `metrics` by predictor and metric, and perhaps `primary_metric`.
    """
    metrics: Mapping[str, Mapping[str, float | None]] = evaluation["metrics"]
    first = [evaluation.get("primary_metric"), *TELLING, *map(mlflow_name, TELLING)]
    place = {name: number for number, name in reversed(list(enumerate(first)))}
    known = {name for found in metrics.values() for name in found}
    names = sorted(known, key=lambda name: (place.get(name, len(first)), name))[:MAX_METRICS]
    rows = [["model", *names], ["---"] + ["---:"] * len(names)]
    rows += [[model, *(_cell(found.get(n)) for n in names)] for model, found in metrics.items()]
    return ["| " + " | ".join(row) + " |" for row in rows]


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
