"""champion ──▶ questionnaire: which items to ask a new user about; and what each way is worth."""

import dataclasses

import pyarrow as pa
import torch

from recmeta import schema
from recmeta.config import to_dict
from recmeta.errors import UserError
from recmeta.manifest import Manifest, find, run_once
from recmeta.metalearn.model import Model
from recmeta.progress import Progress, silent
from recmeta.records.step_definition import Folders, Step
from recmeta.registry.models import versions
from recmeta.registry.models.versions import Version
from recmeta.reporting import evidence as reporting
from recmeta.serving.evidence.fitting import (
    TriedAnswers,
    as_training_users_left_it,
    try_answers,
)
from recmeta.serving.evidence.information import About
from recmeta.serving.evidence.questionnaire import Questionnaire, QuestionnaireConfig
from recmeta.serving.evidence.strategy import next_questions
from recmeta.serving.new_user_tasks import tasks_for_new_users
from recmeta.steps.data.build_tasks import BuildTasksOutputs
from recmeta.steps.learning import meta_train
from recmeta.steps.parts.evidence_trial import HeldOut, TrialConfig, mean_error, try_strategies
from recmeta.tasks.task_set import Ragged, TaskSet
from recmeta.training.device import choose_device
from recmeta.workspace import Workspace, sealing

INFORMATION = "information-gain"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvidenceConfig:
    """How a questionnaire is made, and which settings are tried on the development users."""

    questionnaire: QuestionnaireConfig = QuestionnaireConfig()
    """The questionnaire. Its number of classes and subject of information are chosen among those
    below."""
    classes: tuple[int, ...] = (1, 8, 32)
    """Numbers of latent classes that are tried."""
    about: tuple[About, ...] = ("weights", "predictions")
    """Subjects of information that are tried, if the learner has a posterior."""
    trial: TrialConfig = TrialConfig()
    """Questions and metrics."""

    def __post_init__(self) -> None:
        for name in ("classes", "about"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; give at least one.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvidenceOutputs:
    """The outputs of evidence."""

    questionnaire: str
    """Folder of the questionnaire, in the workspace."""
    recommended: str
    """The strategy that was best on development users."""
    model_version: str
    tasks: str
    """Key of the tasks from whose training users it was made."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulationOutputs:
    """The outputs of a simulation."""

    report: str
    """Folder of the report, in the workspace."""


STEP = Step(
    "evidence",
    EvidenceOutputs,
    is_long=True,
    leaves=(Folders(lambda outputs: [outputs.questionnaire]),),
)
SIMULATION = Step(
    "evidence-simulation",
    SimulationOutputs,
    is_long=True,
    leaves=(Folders(lambda outputs: [outputs.report]),),
)


def run(
    config: EvidenceConfig,
    workspace: Workspace,
    *,
    version: Version | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> Manifest[EvidenceOutputs]:
    """Make a model's questionnaire. Classes, subject and strategy are those that lead to the least
    error on the development users, averaged over the numbers of questions.

    Args:
        version: of the registered model; None is the champion.

    Raises:
        UserError: if there is no champion yet, or it was trained in another workspace.
    """
    version = version or versions.in_use(workspace)
    tasks = _tasks_of(workspace, version)
    torch_device = choose_device(device)

    def work(key: str) -> tuple[EvidenceOutputs, dict[str, int]]:
        folder = workspace / "evidence" / key
        task_set = TaskSet(workspace / tasks.outputs.tasks)
        model = _model(workspace, version, task_set, torch_device)
        progress(STEP, 0, 2)
        tried = try_answers(model, task_set.tasks("train"), config.questionnaire)
        held_out = HeldOut.of(workspace, tasks, task_set.tasks("dev"), model, config.trial)
        progress(STEP, 1, 2)
        questionnaire, areas = _choose(model, tried, held_out, config)
        recommended = min(areas, key=lambda name: areas[name])
        with sealing(folder) as place:
            questionnaire.save(place, model)
            place.write_json("development.json", {"mae": areas, "recommended": recommended})
        progress(STEP, 2, 2)
        outputs = EvidenceOutputs(
            questionnaire=f"evidence/{key}",
            recommended=recommended,
            model_version=version.version,
            tasks=tasks.key,
        )
        return outputs, {
            "candidates": len(questionnaire.candidates),
            "development_users": len(held_out.users),
        }

    inputs = {"model": version.model_key, "tasks": tasks.key}
    return run_once(workspace, STEP, config=to_dict(config), inputs=inputs, work=work)


def simulate(
    config: TrialConfig,
    workspace: Workspace,
    made: Manifest[EvidenceOutputs],
    *,
    device: str = "auto",
    progress: Progress = silent,
) -> Manifest[SimulationOutputs]:
    """Ask the cold test users by every strategy, and report the results.

    Args:
        made: the manifest of `run`.
    """
    torch_device = choose_device(device)

    def work(key: str) -> tuple[SimulationOutputs, dict[str, int]]:
        version = versions.get(workspace, made.outputs.model_version)
        tasks = _tasks_of(workspace, version)
        task_set = TaskSet(workspace / tasks.outputs.tasks)
        model = _model(workspace, version, task_set, torch_device)
        questionnaire = Questionnaire.load(workspace / made.outputs.questionnaire, model)
        held_out = HeldOut.of(workspace, tasks, task_set.tasks("test"), model, config)
        names = questionnaire.names(model)
        trial = try_strategies(model, questionnaire, names, held_out, config, progress)
        result = {
            **trial.to_dict(),
            "model": model.config.learner_name,
            "recommended": made.outputs.recommended,
            "questionnaire": to_dict(questionnaire.config),
        }
        with sealing(workspace / made.outputs.questionnaire / key) as folder:
            folder.write_json("simulation.json", result)
            folder.write_bytes("simulation.png", reporting.plot(result))
            folder.write_bytes("simulation.md", reporting.report(result).encode())
        outputs = SimulationOutputs(report=f"{made.outputs.questionnaire}/{key}")
        return outputs, {"users": trial.num_users, "strategies": len(names)}

    inputs = {"questionnaire": made.key}
    return run_once(workspace, SIMULATION, config=to_dict(config), inputs=inputs, work=work)


def first_questions(
    workspace: Workspace, made: Manifest[EvidenceOutputs], strategy: str | None, count: int
) -> dict[str, list[dict[str, str]]]:
    """Return, by strategy, `item_id` and `title` of the items about which a user who knows none of
    them is asked, in order.

    Args:
        strategy: if None, all that apply.
    """
    version = versions.get(workspace, made.outputs.model_version)
    model = Model.load(versions.model_folder(workspace, version))
    questionnaire = Questionnaire.load(workspace / made.outputs.questionnaire, model)
    nobody = pa.table({schema.USER_ID: ["new"], schema.ITEM_ID: pa.array([None], pa.string())})
    user, _ = tasks_for_new_users(model, nobody.append_column(schema.VALUE, pa.array([0.0])))
    titles = model.catalogue.items.names()
    found = {}
    for name in [strategy] if strategy is not None else questionnaire.names(model):
        chosen = questionnaire.strategy(name, model)
        asked: list[int] = []
        for _ in range(min(count, len(questionnaire.candidates))):
            unknown = Ragged.from_lists([asked], [[0.0] * len(asked)])
            next_one = next_questions(chosen, questionnaire.candidates, user, unknown)
            asked.append(int(next_one[0, 0]))
        ids = model.catalogue.items.item_id.take(pa.array(asked)).to_pylist()
        found[name] = [
            {schema.ITEM_ID: item_id, schema.TITLE: titles[item].as_py()}
            for item, item_id in zip(asked, ids, strict=True)
        ]
    return found


def _choose(
    model: Model, tried: TriedAnswers, held_out: HeldOut, config: EvidenceConfig
) -> tuple[Questionnaire, dict[str, float]]:
    """Return the questionnaire with the classes and the subject under which the best of the
    strategies that depend on them has the least error; and the errors of all strategies."""

    def error(questionnaire: Questionnaire, name: str) -> float:
        return mean_error(model, questionnaire, name, held_out, config.trial)

    best: Questionnaire | None = None
    least: dict[str, float] = {}
    for num_classes in config.classes:
        found: dict[str, float] = {}
        for about in config.about:
            settings = dataclasses.replace(
                config.questionnaire, num_classes=num_classes, about=about
            )
            questionnaire = tried.questionnaire(settings)
            names = [n for n in questionnaire.names(model) if n not in ("random", *tried.lists)]
            for name in names:
                if name not in found or name == INFORMATION:
                    found[name] = error(questionnaire, name)
            if best is None or min(found.values()) < min(least.values()):
                best, least = questionnaire, dict(found)
            if INFORMATION not in names:
                break
    assert best is not None, "classes and about are not empty"
    return best, least | {name: error(best, name) for name in ("random", *tried.lists)}


def _tasks_of(workspace: Workspace, version: Version) -> Manifest[BuildTasksOutputs]:
    """Return the manifest of the tasks that a model was trained on."""
    trained = find(workspace, meta_train.STEP, version.model_key or "")
    tasks = meta_train.tasks_of(workspace, trained) if trained else None
    if tasks is None:
        raise UserError(
            f"the tasks that version {version.version} was trained on are not in "
            f"{workspace.location}, and asking needs their users: train in this workspace."
        )
    return tasks


def _model(
    workspace: Workspace, version: Version, task_set: TaskSet, device: torch.device
) -> Model:
    """Return a model over its training catalogue, with the item statistics of its training users
    alone."""
    model = Model.load(versions.model_folder(workspace, version), device)
    model = model.on(task_set.items(), task_set.statistics())
    return as_training_users_left_it(model, task_set.tasks("train"))
