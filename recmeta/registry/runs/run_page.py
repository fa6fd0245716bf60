"""The description at the top of a run's page in MLflow: what was trained, how good it is, and who
decided.

It is rewritten, from the data of the run and its model version, whenever one of them changes. A
description that a person has written is kept.
"""

from collections.abc import Mapping
from typing import Any

from recmeta.config import fingerprint
from recmeta.markup import inline
from recmeta.registry.models.description import table
from recmeta.registry.tracking import INPUT
from recmeta.schema import TABLES

NOTE = "mlflow.note.content"
NOTE_DIGEST = "recmeta.note_digest"
"""The digest of the description that was written last: if it differs, a person has changed it."""

GIT_COMMIT = "mlflow.source.git.commit"
GIT_DIRTY = "mlflow.source.git.dirty"
STARTED_BY = "recmeta.started_by"
FEATURE_SERVICE = "recmeta.feature_service"
FEATURES_DIGEST = "recmeta.features_digest"
FEATURES = "recmeta.features"
CANDIDATE = "recmeta.candidate"
PRIMARY_METRIC = "recmeta.primary_metric"

# Tags of a version of the model.
DECISION = "recmeta.decision"
REASONS = "recmeta.reasons"
PROMOTED_BY = "recmeta.promoted_by"
PROMOTED_AT = "recmeta.promoted_at"
PROMOTED_BECAUSE = "recmeta.promoted_because"


def refresh(client: Any, run_id: str) -> None:
    """Bring the description of a training's run up to date, unless a person has written it."""
    run = client.get_run(run_id)
    tags = run.data.tags
    present = tags.get(NOTE, "")
    if present and fingerprint(present) != tags.get(NOTE_DIGEST):
        return
    found = client.search_model_versions(f"run_id = '{run_id}'", max_results=1)
    note = describe_run(tags, run.data.metrics, found[0] if found else None)
    if note != present:
        client.set_tag(run_id, NOTE_DIGEST, fingerprint(note))
        client.set_tag(run_id, NOTE, note)


def describe_run(tags: Mapping[str, str], metrics: Mapping[str, float], version: Any) -> str:
    """Return the description as Markdown.

    Args:
        metrics: `METRIC.PREDICTOR` to value; others are ignored.
        version: MLflow's model version that the run's model became, or None.
    """
    lines = [
        f"**Data**: {data(tags)}.",
        f"**Code**: {_code(tags)}, started by {inline(tags.get(STARTED_BY, 'unknown'))}.",
        f"**Features**: {features(tags)}.",
        "**How good**: " + ("not evaluated yet." if PRIMARY_METRIC not in tags else ""),
    ]
    if PRIMARY_METRIC in tags:
        lines.append("\n".join(_comparison(tags, metrics)))
    lines.append(f"**Decision**: {_decision(version)}")
    return "\n\n".join(lines)


def data(tags: Mapping[str, str]) -> str:
    """Return which versions of which tables a run read, as Markdown."""
    inputs = {n.removeprefix(INPUT): v for n, v in tags.items() if n.startswith(INPUT)}
    names = [t.name for t in TABLES if t.name in inputs]
    read = [f"`{name}` version {inputs[name]}" for name in names] or ["no table"]
    if "tasks" in inputs:
        read.append(f"as tasks `{inputs['tasks']}`")
    if "champion" in inputs:
        read.append(f"going on from model version {inputs['champion']}")
    return ", ".join(read)


def _code(tags: Mapping[str, str]) -> str:
    commit = tags.get(GIT_COMMIT)
    if commit is None:
        return "an installed package (environment.json has its version)"
    dirty = " with uncommitted changes" if tags.get(GIT_DIRTY) == "true" else ""
    return f"commit `{commit}`{dirty}"


def features(tags: Mapping[str, str]) -> str:
    """Return the feature service and what the model of a run reads of it, as Markdown."""
    listed = tags.get(FEATURES) or "none"
    return f"`{tags.get(FEATURE_SERVICE)}` ({tags.get(FEATURES_DIGEST)}): {listed}"


def _comparison(tags: Mapping[str, str], metrics: Mapping[str, float]) -> list[str]:
    """Return a table with a row per predictor: the run's own model, then those it must beat."""
    predictors: dict[str, dict[str, float | None]] = {tags.get(CANDIDATE, ""): {}}
    for name, value in metrics.items():
        metric, dot, predictor = name.partition(".")
        if dot and not metric.startswith("system/"):
            predictors.setdefault(predictor, {})[metric] = value
    return table({"metrics": predictors, "primary_metric": tags[PRIMARY_METRIC]})


def _decision(version: Any) -> str:
    if version is None:
        return "not registered yet."
    tags = version.tags
    said = f"version {version.version}, {tags.get(DECISION, 'registered')}."
    if PROMOTED_BY in tags:
        said += (
            f" Made champion by {inline(tags[PROMOTED_BY])} at {tags[PROMOTED_AT]}: "
            f"{inline(tags[PROMOTED_BECAUSE])}."
        )
    return "\n".join([said, *(f"- {reason}" for reason in _lines(tags.get(REASONS, "")))])


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]
