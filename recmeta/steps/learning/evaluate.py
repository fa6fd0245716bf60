"""model ──▶ report: candidate, champion and baselines on the same cold users, and the gate."""

import dataclasses
import functools
from typing import Any

import torch

from recmeta.config import to_dict
from recmeta.engine import run as engines
from recmeta.engine.config import HERE, EngineConfig
from recmeta.evaluation.baseline import Trial
from recmeta.evaluation.comparison.gate import GateDecision
from recmeta.evaluation.judgement import CHAMPION, Judgement, JudgementConfig, gate, judge
from recmeta.manifest import Manifest, run_once
from recmeta.metalearn.model import Model
from recmeta.progress import Progress, silent
from recmeta.records.step_definition import Folders, Step
from recmeta.registry.models import versions
from recmeta.registry.models.forgotten import why_retrain
from recmeta.registry.models.versions import Version
from recmeta.registry.runs.training_run import log_evaluation
from recmeta.registry.runs.tuning import log_tuning
from recmeta.reporting import plots
from recmeta.reporting.markdown import evaluation_report
from recmeta.steps.data.build_tasks import BuildTasksOutputs
from recmeta.steps.learning.meta_train import MetaTrainOutputs
from recmeta.tasks.split_config import SplitKind
from recmeta.tasks.task_set import TaskSet
from recmeta.training.device import choose_device
from recmeta.workspace import Folder, Workspace, sealed, sealing


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOutputs:
    """The outputs of evaluate."""

    report: str
    """Folder of the report, in the workspace."""
    model: str
    """Folder of the model that was evaluated."""
    model_key: str
    """Key of its training."""
    run_id: str
    """MLflow's id of its training."""
    compared_with: str | None
    """The version that was champion then; None before the first."""
    promoted: bool
    """Whether the gate lets it become the champion."""


STEP = Step(
    "evaluate", EvaluateOutputs, is_long=True, leaves=(Folders(lambda outputs: [outputs.report]),)
)


def run(
    config: JudgementConfig,
    workspace: Workspace,
    tasks: Manifest[BuildTasksOutputs],
    trained: Manifest[MetaTrainOutputs],
    *,
    rival: Manifest[MetaTrainOutputs] | None = None,
    device: str = "auto",
    progress: Progress = silent,
    engine: EngineConfig = HERE,
) -> Manifest[EvaluateOutputs]:
    """Evaluate a trained model and decide whether it may become the champion.

    Args:
        tasks: the manifest of build-tasks, on whose test users the models are measured.
        trained: the manifest of meta-train.
        rival: the manifest of a second model, which the report compares and the gate ignores.
        engine: measures batches of users. It is not part of the step's key, since the report is the
            same.
    """
    champion = versions.reference_champion(workspace, trained.key)
    torch_device = choose_device(device)

    def work(key: str) -> tuple[EvaluateOutputs, dict[str, int]]:
        folder = workspace / "reports" / key
        task_set = TaskSet(workspace / tasks.outputs.tasks)
        candidate, reigning, other = _models(workspace, trained, champion, rival, torch_device)
        trials: list[Trial] = []
        judgement = judge(
            config.evaluation,
            task_set,
            candidate,
            reigning,
            other,
            baseline_names=config.baselines,
            on_trial=trials.append,
            progress=progress,
            run=functools.partial(engines.run, config=engine),
        )
        decision = _decision(config, judgement, champion)
        progress(STEP, 3, 4)
        history = sealed(workspace / trained.outputs.model).read_json("history.json")
        with sealing(folder) as place:
            split = task_set.spec.split
            _write_report(place, judgement, decision, champion is not None, other, history, split)
        _log(workspace, trained.outputs.run_id, folder, config, judgement, trials)
        progress(STEP, 4, 4)
        outputs = EvaluateOutputs(
            report=f"reports/{key}",
            model=trained.outputs.model,
            model_key=trained.key,
            run_id=trained.outputs.run_id,
            compared_with=champion.version if champion is not None else None,
            promoted=decision.promoted,
        )
        found = judgement.evaluation
        return outputs, {"cold_users": len(found.user_id), "predictors": len(found.per_user)}

    inputs = {
        "tasks": tasks.key,
        "model": trained.key,
        "champion": champion.model_key if champion is not None else None,
    }
    if rival is not None:
        inputs["rival"] = rival.key
    return run_once(workspace, STEP, config=to_dict(config), inputs=inputs, work=work)


def _models(
    workspace: Workspace,
    trained: Manifest[MetaTrainOutputs],
    champion: Version | None,
    rival: Manifest[MetaTrainOutputs] | None,
    device: torch.device,
) -> tuple[Model, Model | None, Model | None]:
    """Return the candidate and, if they exist, the champion and the rival, on a device."""
    candidate = Model.load(workspace / trained.outputs.model, device)
    reigning = None
    if champion is not None:
        reigning = Model.load(versions.model_folder(workspace, champion), device)
    other = None
    if rival is not None:
        other = Model.load(workspace / rival.outputs.model, device)
    return candidate, reigning, other


def _decision(
    config: JudgementConfig, judgement: Judgement, champion: Version | None
) -> GateDecision:
    """Return the gate's decision on the candidate; if the champion is due to be replaced, its
    reasons say so, too."""
    decision = gate(config, judgement, has_champion=champion is not None)
    if champion is None or (why := why_retrain(champion)) is None:
        return decision
    due = f"The champion, version {champion.version}, is due to be replaced: {why}."
    return dataclasses.replace(decision, reasons=(*decision.reasons, due))


def _write_report(
    folder: Folder,
    judgement: Judgement,
    decision: GateDecision,
    has_champion: bool,
    rival: Model | None,
    history: list[dict[str, Any]],
    split: SplitKind | None,
) -> None:
    """Write the report, for programs and for people.

    Args:
        history: the epochs of the candidate's training.
        split: what was held out; None if the task set does not record it.
    """
    found, name = judgement.evaluation, judgement.candidate
    result = found.to_dict()
    result["candidate"] = name
    result["split"] = split
    result["rival"] = None if rival is None else rival.config.learner_name
    result["calibration"] = judgement.calibration
    result["certificate"] = judgement.certificate
    result["left_out"] = judgement.left_out
    result["drawn"] = judgement.drawn
    if judgement.values is not None:
        result["values"] = dataclasses.asdict(judgement.values)
    result["metrics"][name] |= judgement.held
    learned = [name, CHAMPION] if has_champion else [name]
    curves = [result["adaptation_curve"], result["list_curve"]]
    for curve in curves:
        curve["learned"] = learned
    folder.write_parquet("per_user.parquet", found.per_user_table())
    folder.write_json("evaluation.json", result)
    folder.write_json("decision.json", dataclasses.asdict(decision))
    folder.write_bytes("adaptation_curve.png", plots.adaptation_curve(curves))
    dev_loss = "development MAE" if found.objective == "rating" else "development 1 - nDCG@10"
    folder.write_bytes("training.png", plots.training_curve(history, dev_loss))
    if judgement.calibration is not None:
        folder.write_bytes("calibration.png", plots.calibration(judgement.calibration))
    report = evaluation_report(result, dataclasses.asdict(decision))
    folder.write_bytes("report.md", report.encode())


def _log(
    workspace: Workspace,
    run_id: str,
    folder: Folder,
    config: JudgementConfig,
    judgement: Judgement,
    trials: list[Trial],
) -> None:
    """Log the metrics, with the report's folder, to the MLflow run that trained the candidate, and
    the trials of the baselines to runs nested in it."""
    log_tuning(workspace, run_id, STEP, trials)
    log_evaluation(
        workspace,
        run_id,
        judgement.metrics,
        folder,
        config=to_dict(config),
        candidate=judgement.candidate,
        primary_metric=judgement.evaluation.primary_metric,
    )
