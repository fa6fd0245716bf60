"""What the workspace has recorded of its models."""

import dataclasses
import logging
from typing import Any

from recmeta.errors import Broken
from recmeta.manifest import finished
from recmeta.metalearn.model import Model
from recmeta.registry.models.versions import Version
from recmeta.serving.evidence.questionnaire import Questionnaire
from recmeta.serving.evidence.strategy import Strategy
from recmeta.steps.learning import evaluate
from recmeta.steps.serving import evidence
from recmeta.workspace import Folder, Workspace, sealed

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class QuestionPlan:
    """How new users are asked questions."""

    questionnaire: Questionnaire
    strategy: Strategy
    """The strategy that did best on the development users."""


def evaluation_of(workspace: Workspace, version: Version) -> dict[str, Any] | None:
    """Return evaluation.json of a version's newest evaluation; None if the workspace has none, or
    it is broken: the model answers without it."""
    folder = evaluations(workspace).get(version.model_key or "")
    return None if folder is None else read_evaluation(folder)


def read_evaluation(folder: Folder) -> dict[str, Any] | None:
    """Return evaluation.json; None if it is broken, which is logged."""
    try:
        return dict(sealed(folder).read_json("evaluation.json"))
    except (Broken, ValueError) as error:
        log.warning("an evaluation cannot be shown: %s", error)
        return None


def evaluations(workspace: Workspace) -> dict[str, Folder]:
    """Return by model key the folder of each model's newest evaluation."""
    found = [manifest.outputs for manifest in finished(workspace, evaluate.STEP)]
    return {one.model_key: workspace / one.report for one in found}  # of a key, the last one stays


def interview_of(workspace: Workspace, version: Version, model: Model) -> QuestionPlan | None:
    """Return the latest result of `recmeta evidence` for a version; None if it did not run, or its
    output is broken."""
    found = [manifest.outputs for manifest in finished(workspace, evidence.STEP)]
    newest = {one.model_version: one for one in found}.get(version.version)
    if newest is None:
        return None
    try:
        questionnaire = Questionnaire.load(workspace / newest.questionnaire, model)
    except Broken as error:
        log.warning("nothing can be asked: %s", error)
        return None
    strategy = questionnaire.strategy(newest.recommended, model)
    return QuestionPlan(questionnaire, strategy)
