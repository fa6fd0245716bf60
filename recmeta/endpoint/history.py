"""What the workspace has on record of its models."""

import dataclasses
from typing import Any

from recmeta.manifest import Manifest, finished
from recmeta.metalearn.model import Model
from recmeta.registry.versions import Version
from recmeta.serving.evidence.questionnaire import Questionnaire
from recmeta.serving.evidence.strategy import Strategy
from recmeta.steps.learning import evaluate
from recmeta.steps.serving import evidence
from recmeta.workspace import Folder, Workspace


@dataclasses.dataclass(frozen=True)
class Interview:
    """How new users are asked."""

    questionnaire: Questionnaire
    strategy: Strategy
    """That which did best on the development users."""


def evaluation_of(workspace: Workspace, version: Version) -> dict[str, Any] | None:
    """Return evaluation.json of a version's newest evaluation; None where the workspace has
    none."""
    folder = evaluations(workspace).get(version.model_key)
    return None if folder is None else dict(folder.read_json("evaluation.json"))


def evaluations(workspace: Workspace) -> dict[str | None, Folder]:
    """Return by model key the folder of each model's newest evaluation."""
    found = _newest_by(workspace, evaluate.STEP, "model_key")
    return {key: workspace / manifest.outputs["report"] for key, manifest in found.items()}


def interview_of(workspace: Workspace, version: Version, model: Model) -> Interview | None:
    """Return what `recmeta evidence` last found for a version; None where it did not run."""
    newest = _newest_by(workspace, evidence.STEP, "model_version").get(version.version)
    if newest is None:
        return None
    questionnaire = Questionnaire.load(workspace / newest.outputs["questionnaire"], model)
    strategy = questionnaire.strategy(newest.outputs["recommended"], model)
    return Interview(questionnaire, strategy)


def _newest_by(workspace: Workspace, step: str, output: str) -> dict[str | None, Manifest]:
    """Return a step's newest manifest for each value of one of its outputs."""
    return {m.outputs.get(output): m for m in finished(workspace, step)}
