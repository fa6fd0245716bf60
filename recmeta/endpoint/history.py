"""What the workspace has on record of its models."""

import dataclasses
from typing import Any

from recmeta.manifest import LATEST
from recmeta.metalearn.model import Model
from recmeta.registry.versions import Version
from recmeta.serving.evidence.questionnaire import Questionnaire
from recmeta.serving.evidence.strategy import Strategy
from recmeta.steps import evaluate, evidence
from recmeta.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class Interview:
    """How new users are asked."""

    questionnaire: Questionnaire
    strategy: Strategy
    """That which did best on the development users."""


def evaluation_of(workspace: Workspace, version: Version) -> dict[str, Any] | None:
    """Return evaluation.json of a version's newest evaluation; None where the workspace has
    none."""
    newest = _newest(workspace, evaluate.STEP, "model_key", version.model_key)
    if newest is None:
        return None
    report: dict[str, Any] = (workspace / newest["outputs"]["report"]).read_json("evaluation.json")
    return report


def interview_of(workspace: Workspace, version: Version, model: Model) -> Interview | None:
    """Return what `recmeta evidence` last found for a version; None where it did not run."""
    newest = _newest(workspace, evidence.STEP, "model_version", version.version)
    if newest is None:
        return None
    folder = workspace / newest["outputs"]["questionnaire"]
    questionnaire = Questionnaire.load(folder, model)
    strategy = questionnaire.strategy(newest["outputs"]["recommended"], model)
    return Interview(questionnaire, strategy)


def _newest(workspace: Workspace, step: str, output: str, value: str | None) -> Any:
    """Return a step's newest manifest with that output, as it is on file; None if there is none."""
    folder = workspace / "manifests" / step
    found = [folder.read_json(name) for name in folder.names() if name != LATEST]
    own = [m for m in found if m["outputs"].get(output) == value]
    return max(own, key=lambda manifest: str(manifest["finished_at"]), default=None)
