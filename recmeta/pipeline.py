"""All steps, one after the other, and the report at the end. Finished steps are not done again."""

import dataclasses
from typing import Any

import polars as pl

from recmeta import schema
from recmeta.errors.secrets import masked
from recmeta.logs import tables
from recmeta.logs.mapping import LogMapping
from recmeta.manifest import Manifest
from recmeta.progress import Progress, silent
from recmeta.recipes import PipelineConfig
from recmeta.registry.models import versions
from recmeta.reporting import markdown
from recmeta.reporting.lists import ranked
from recmeta.steps.data import build_tasks, ingest, materialise_features
from recmeta.steps.data.build_tasks import BuildTasksOutputs
from recmeta.steps.data.ingest import IngestOutputs
from recmeta.steps.data.materialise_features import MaterialiseFeaturesOutputs
from recmeta.steps.learning import evaluate, meta_train, register
from recmeta.steps.learning.evaluate import EvaluateOutputs
from recmeta.steps.learning.meta_train import MetaTrainOutputs
from recmeta.steps.learning.register import RegisterOutputs
from recmeta.steps.parts.new_user_files import cold_users
from recmeta.steps.serving import adapt, list_files, score
from recmeta.steps.serving.adapt import AdaptOutputs
from recmeta.steps.serving.score import ScoreOutputs
from recmeta.tasks.task_set import TaskSet
from recmeta.workspace import REPORT, Workspace, sealed, writes

NUM_SUPPORT_SHOWN = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineResult:
    """What came out of a run."""

    ingested: Manifest[IngestOutputs]
    features: Manifest[MaterialiseFeaturesOutputs]
    tasks: Manifest[BuildTasksOutputs]
    trained: Manifest[MetaTrainOutputs]
    evaluated: Manifest[EvaluateOutputs]
    registered: Manifest[RegisterOutputs]
    adapted: Manifest[AdaptOutputs]
    scored: Manifest[ScoreOutputs]
    evaluation: dict[str, Any]
    """evaluation.json"""
    decision: dict[str, Any]
    """decision.json"""
    report: str
    """The whole report as Markdown, without where to look next."""
    recommendations: str
    """Address of the table of lists."""
    scored_by: versions.Version
    """The version that made the lists: the champion, or this run's candidate before there is
    one."""

    @property
    def manifests(self) -> tuple[Manifest[Any], ...]:
        """All steps', in the order of the flow."""
        return (
            self.ingested,
            self.features,
            self.tasks,
            self.trained,
            self.evaluated,
            self.registered,
            self.adapted,
            self.scored,
        )

    @property
    def metrics(self) -> dict[str, dict[str, float | None]]:
        """Means over the cold users by predictor and metric."""
        return _with_plain_ndcg(self.evaluation)

    @property
    def gate(self) -> dict[str, Any]:
        """Whether the model was promoted, by which decision, and the gate's reasons."""
        return {
            "promoted": self.registered.outputs.promoted,
            "decision": self.registered.outputs.decision,
            "reasons": self.decision["reasons"],
        }

    def summary(self) -> dict[str, Any]:
        """Return the run as one JSON-ready object."""
        registered, scored = self.registered.outputs, self.scored.outputs
        return {
            "metrics": self.metrics,
            "gate": self.gate,
            "model_version": registered.model_version,
            "scored_by_version": self.scored_by.version,
            "recommendations": self.recommendations,
            "recommendations_run": scored.run,
            "report": self.evaluated.outputs.report,
            "ingest": self.ingested.counts,
            "tasks": self.tasks.counts,
            "score": self.scored.counts,
            "reused": {str(m.step): m.reused for m in self.manifests},
        }


@writes
def run(
    config: PipelineConfig,
    mapping: LogMapping,
    workspace: Workspace,
    *,
    new_users: LogMapping | None = None,
    max_unknown_share: float | None = None,
    force: bool = False,
    device: str = "auto",
    feature_store: str | None = None,
    processes: int = 1,
    progress: Progress = silent,
) -> PipelineResult:
    """Run every step from a log to ranked lists.

    Args:
        new_users: the users to score, or None for the cold test users by their support alone.
        max_unknown_share: of their interactions; see `adapt.run`.
        force: promote the candidate even if the gate refuses.
        feature_store: a Feast repository in which to put features online, and from which to read
            the profiles of those who are scored, or None.
        processes: number of processes of this machine that share each training; see
            `meta_train.run`.
    """
    ingested = ingest.run(mapping, workspace, config=config.ingest, progress=progress)
    features = materialise_features.run(workspace, feature_store=feature_store, progress=progress)
    tasks = build_tasks.run(config.tasks, workspace, progress=progress)
    trained, rival = _train(config, workspace, tasks, device, processes, progress)
    evaluated = evaluate.run(
        config.evaluate,
        workspace,
        tasks,
        trained,
        rival=rival,
        device=device,
        progress=progress,
    )
    registered = register.run(workspace, evaluated, force=force)
    candidate = versions.get(workspace, registered.outputs.model_version)
    version = versions.champion(workspace) or candidate
    adapted = adapt.run(
        new_users or cold_users(workspace, tasks.key, TaskSet(workspace / tasks.outputs.tasks)),
        workspace,
        version=version,
        device=device,
        feature_store=feature_store,
        max_unknown_share=max_unknown_share,
        progress=progress,
    )
    scored = score.run(config.score, workspace, adapted, device=device, progress=progress)
    folder = sealed(workspace / evaluated.outputs.report)
    evaluation, decision = folder.read_json("evaluation.json"), folder.read_json("decision.json")
    parts = _report_parts(
        ingested, tasks, evaluation, {**decision, "promoted": registered.outputs.promoted}
    )
    if new_users is None:
        parts.append(_example(workspace, tasks, scored))
    report = "\n\n".join(parts) + "\n"
    workspace.write_bytes(REPORT, masked(report).encode())
    return PipelineResult(
        ingested=ingested,
        features=features,
        tasks=tasks,
        trained=trained,
        evaluated=evaluated,
        registered=registered,
        adapted=adapted,
        scored=scored,
        evaluation=evaluation,
        decision=decision,
        report=report,
        recommendations=workspace.table_uri(schema.RECOMMENDATIONS),
        scored_by=version,
    )


def _train(
    config: PipelineConfig,
    workspace: Workspace,
    tasks: Manifest[BuildTasksOutputs],
    device: str,
    processes: int,
    progress: Progress,
) -> tuple[Manifest[MetaTrainOutputs], Manifest[MetaTrainOutputs] | None]:
    """Return the manifests of the model and of its rival, if there is to be one."""
    objective = tasks.outputs.objective
    rival_config = config.rival_for(objective)
    rival = None
    if rival_config is not None:  # before the model, which then is the one that was trained last
        rival = meta_train.run(
            rival_config, workspace, tasks, device=device, processes=processes, progress=progress
        )
    trained = meta_train.run(
        config.training_for(objective),
        workspace,
        tasks,
        device=device,
        processes=processes,
        progress=progress,
    )
    return trained, rival


def _report_parts(
    ingested: Manifest[IngestOutputs],
    tasks: Manifest[BuildTasksOutputs],
    evaluation: dict[str, Any],
    decision: dict[str, Any],
) -> list[str]:
    """Return the sections of the report, from what was read to the gate's verdict."""
    objective, temporal = tasks.outputs.objective, tasks.outputs.temporal
    striking = ingested.outputs.findings
    found = None if striking is None else dataclasses.asdict(striking)
    return [
        "# What this run did",
        markdown.data(ingested.counts, tasks.counts, objective, temporal, found),
        *filter(None, [markdown.values(evaluation)]),
        markdown.lists(evaluation),
        markdown.accuracy(evaluation),
        *markdown.curves(evaluation),
        markdown.calibration(evaluation),
        markdown.gate(decision),
    ]


def _example(
    workspace: Workspace, tasks: Manifest[BuildTasksOutputs], scored: Manifest[ScoreOutputs]
) -> str:
    """Return the list of the cold user of whom most is known, with titles."""
    task_set = TaskSet(workspace / tasks.outputs.tasks)
    test, items = task_set.tasks("test"), task_set.items()
    chosen = int(test.support.lengths.argmax())
    user_id = test.user_id[chosen]
    rows = slice(test.support.offsets[chosen], test.support.offsets[chosen + 1])
    liked = sorted(
        zip(test.support.value[rows].tolist(), test.support.item[rows].tolist(), strict=True),
        reverse=True,
    )
    names = items.names().to_pylist()
    support = [[names[item], f"{value:g}"] for value, item in liked[:NUM_SUPPORT_SHOWN]]
    lists = (
        tables.scan(workspace, schema.RECOMMENDATIONS)
        .filter((pl.col(schema.RUN) == scored.outputs.run) & (pl.col(schema.USER_ID) == user_id))
        .collect()
    )
    listed = ranked(list_files.with_titles(lists, list_files.titles(workspace)).to_dicts())
    return markdown.top_list(user_id, support, listed, scored.outputs.model_version)


def _with_plain_ndcg(evaluation: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return the metrics; where feedback is implicit, `ndcg@k` is that of the whole catalogue."""
    found: dict[str, dict[str, float | None]] = evaluation["metrics"]
    if evaluation["objective"] == "rating":
        return found
    return {
        name: {
            **metrics,
            **{m.removeprefix("full_"): v for m, v in metrics.items() if m.startswith("full_ndcg")},
        }
        for name, metrics in found.items()
    }
