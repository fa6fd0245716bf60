"""What the workspace has on record of its models."""

import dataclasses
from typing import Any

from recmeta.manifest import finished
from recmeta.metalearn.model import Model
from recmeta.registry.models.versions import Version
from recmeta.serving.evidence.questionnaire import Questionnaire
from recmeta.serving.evidence.strategy import Strategy
from recmeta.steps.learning import evaluate
from recmeta.steps.serving import evidence
from recmeta.workspace import Folder, Workspace


@dataclasses.dataclass(frozen=True)
class QuestionPlan:
    """How new users are asked."""

    questionnaire: Questionnaire
    strategy: Strategy
    """That which did best on the development users."""


def evaluation_of(workspace: Workspace, version: Version) -> dict[str, Any] | None:
    """Return evaluation.json of a version's newest evaluation; None where the workspace has
    none."""
    folder = evaluations(workspace).get(version.model_key or "")
    return None if folder is None else dict(folder.read_json("evaluation.json"))


def evaluations(workspace: Workspace) -> dict[str, Folder]:
    """Return by model key the folder of each model's newest evaluation."""
    found = [manifest.outputs for manifest in finished(workspace, evaluate.STEP)]
    return {one.model_key: workspace / one.report for one in found}  # of a key, the last one stays


def interview_of(workspace: Workspace, version: Version, model: Model) -> QuestionPlan | None:
    """Return what `recmeta evidence` last found for a version; None where it did not run."""
    found = [manifest.outputs for manifest in finished(workspace, evidence.STEP)]
    newest = {one.model_version: one for one in found}.get(version.version)
    if newest is None:
        return None
    questionnaire = Questionnaire.load(workspace / newest.questionnaire, model)
    strategy = questionnaire.strategy(newest.recommended, model)
    return QuestionPlan(questionnaire, strategy)
