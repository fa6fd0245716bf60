"""The owner's page: the latest run, coverage, drift, the champions, and their history.

A key whose name is `owner`, or begins with `owner-`, is the owner's. If there is such a key, no
other key opens the page.

Everything is read in a separate thread, once for all who ask meanwhile and within a time limit, so
that tables or an MLflow server that hang do not delay requests for recommendations.
"""

import asyncio
import time
from concurrent.futures import Future
from typing import Any

import polars as pl
from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, Field

from recmeta import schema
from recmeta.endpoint.answers.history import evaluations, read_evaluation
from recmeta.endpoint.answers.models import Problem
from recmeta.endpoint.api import REFUSALS
from recmeta.endpoint.aside import Aside
from recmeta.endpoint.guard.keys import ApiKeys
from recmeta.endpoint.guard.problems import retry_after
from recmeta.endpoint.operation.metrics import Metrics
from recmeta.endpoint.operation.owner_history import History, Latency, history, latency
from recmeta.errors import UserError
from recmeta.logs import tables
from recmeta.manifest import latest
from recmeta.registry.models import versions
from recmeta.registry.models.versions import Version
from recmeta.registry.runs import run_page
from recmeta.steps.data import build_tasks, ingest, materialise_features
from recmeta.steps.learning import evaluate, meta_train, register
from recmeta.steps.serving import adapt, score
from recmeta.steps.upkeep import drift
from recmeta.workspace import Workspace, sealed

STEPS = (ingest, materialise_features, build_tasks, meta_train, evaluate, register, adapt, score)
KEPT_SECONDS = 10.0
"""How long an answer is reused, so that reloading the page does not read the tables again."""
OWNER = "owner"
RECOMMENDATIONS = "/v1/recommendations"
router = APIRouter(
    prefix="/v1",
    responses={
        **REFUSALS,
        403: {
            "description": "The key is not the owner's.",
            "model": Problem,
            "content": {"application/problem+json": {}},
        },
    },
)


class StepDone(BaseModel):
    """The last time that a step finished."""

    step: str
    finished_at: str
    seconds: float
    counts: dict[str, int]


class Coverage(BaseModel):
    """The users and items that the last scoring reached."""

    users: int = Field(description="Users with a list.")
    full_lists: float = Field(description="Share of them whose list has the usual length.")
    items: int = Field(description="Distinct items in any list.")
    catalogue: int = Field(description="Items that there are.")
    top_share: float = Field(description="Share of lists with the most recommended item.")


class Drift(BaseModel):
    """The newest drift report."""

    day: str
    model_version: str
    findings: list[str]
    stability_index: dict[str, float]


class Measured(BaseModel):
    """A measurement of a version on its cold users."""

    metric: str
    value: float
    low: float | None
    high: float | None


class ChampionRecord(BaseModel):
    """A version of the model, and its history."""

    version: str
    aliases: list[str]
    decision: str | None
    promoted_at: str | None
    promoted_by: str | None
    promoted_because: str | None
    reasons: list[str]
    metric: str | None
    value: float | None
    low: float | None
    high: float | None
    lists: Measured | None = Field(description="Of its lists; the fields above are of its ratings.")


class WorkspaceAnswer(BaseModel):
    """The state of the job."""

    steps: list[StepDone] = Field(description="In the order of the pipeline.")
    coverage: Coverage | None
    drift: Drift | None
    versions: list[ChampionRecord] = Field(description="The newest first.")
    history: History
    latency: Latency


class OwnerView:
    """Reads a workspace, at most every few seconds. Belongs to one event loop."""

    def __init__(
        self, workspace: Workspace, seconds: float, metrics: Metrics, keys: ApiKeys | None = None
    ) -> None:
        """
        Args:
            seconds: how long a reading may take.
            metrics: the metrics of this process.
            keys: of the endpoint; if there are keys of the owner, only these are let in.
        """
        names = () if keys is None else keys.names
        self._owners = frozenset(n for n in names if n == OWNER or n.startswith(f"{OWNER}-"))
        self.metrics = metrics
        self._aside = Aside(lambda: _read(workspace, metrics), "recmeta-owner")
        self._seconds = seconds
        self._reading: tuple[float, Future[WorkspaceAnswer]] | None = None

    def lets_in(self, name: str | None) -> bool:
        """Return whether a key of that name opens this."""
        return not self._owners or name in self._owners

    async def read(self) -> WorkspaceAnswer:
        """Return the state of the job.

        Raises:
            TimeoutError: if that takes too long. Later requests do not wait longer for the same
                reading.
        """
        now = time.monotonic()
        if self._reading is None or self._is_old(*self._reading):
            self._reading = now, self._aside.start()
        began, reading = self._reading
        async with asyncio.timeout(max(0.0, began + self._seconds - now)):
            return await asyncio.shield(asyncio.wrap_future(reading))

    def _is_old(self, began: float, reading: "Future[WorkspaceAnswer]") -> bool:
        if not reading.done():
            return False
        return time.monotonic() - began > KEPT_SECONDS or reading.exception() is not None


@router.get("/workspace", summary="Report the state of the job")
async def workspace(request: Request) -> WorkspaceAnswer:
    """Return the latest run, its coverage, the newest drift report, the champions so far, and the
    history of all of it."""
    view: OwnerView = request.app.state.owner
    if not view.lets_in(request.state.log.get("key")):
        raise HTTPException(403, "this is for the owner of the job: use a key named owner.")
    try:
        return await view.read()
    except TimeoutError:
        detail = "the workspace, or its MLflow, takes too long to answer."
        raise HTTPException(503, detail, retry_after(KEPT_SECONDS)) from None


def _read(workspace: Workspace, metrics: Metrics) -> WorkspaceAnswer:
    return WorkspaceAnswer(
        steps=_steps(workspace),
        coverage=_coverage(workspace),
        drift=_drift(workspace),
        versions=_records(workspace),
        history=history(workspace),
        latency=latency(metrics, RECOMMENDATIONS),
    )


def _steps(workspace: Workspace) -> list[StepDone]:
    found = []
    for step in STEPS:
        try:
            manifest = latest(workspace, step.STEP)
        except UserError:  # it has not finished yet
            continue
        found.append(
            StepDone(
                step=manifest.step,
                finished_at=manifest.finished_at,
                seconds=manifest.seconds,
                counts=manifest.counts,
            )
        )
    return found


def _coverage(workspace: Workspace) -> Coverage | None:
    """Return the coverage of the newest scoring run; None before the first."""
    try:
        scored = latest(workspace, score.STEP)
    except UserError:
        return None
    own = pl.col(schema.RUN) == scored.outputs.run
    lists = tables.scan(workspace, schema.RECOMMENDATIONS).filter(own)
    of_user = lists.group_by(schema.USER_ID).len("length").collect()
    of_item = lists.group_by(schema.ITEM_ID).len("lists").collect()
    catalogue = tables.scan(workspace, schema.ITEMS).select(pl.col(schema.ITEM_ID).n_unique())
    if not of_user.height:
        return None
    full = of_user["length"] == of_user["length"].max()
    return Coverage(
        users=of_user.height,
        full_lists=float(full.sum()) / of_user.height,
        items=of_item.height,
        catalogue=int(catalogue.collect().item()),
        top_share=float(of_item.top_k(1, by="lists")["lists"].item()) / of_user.height,
    )


def _drift(workspace: Workspace) -> Drift | None:
    try:
        newest = latest(workspace, drift.STEP)
    except UserError:
        return None
    report = sealed(workspace / newest.outputs.report).read_json("drift.json")
    return Drift(
        day=report["day"],
        model_version=report["model_version"],
        findings=report["findings"],
        stability_index=report["stability_index"],
    )


def _records(workspace: Workspace) -> list[ChampionRecord]:
    folders = evaluations(workspace)  # once: each version would read all manifests
    found = []
    for version in reversed(versions.versions(workspace)):
        folder = folders.get(version.model_key or "")
        evaluation = {} if folder is None else read_evaluation(folder) or {}
        found.append(_record(version, evaluation))
    return found


def _record(version: Version, evaluation: dict[str, Any]) -> ChampionRecord:
    tags = version.tags
    metric = evaluation.get("primary_metric")
    intervals = evaluation.get("intervals", {}).get(evaluation.get("candidate"), {})
    interval = intervals.get(metric, {})
    return ChampionRecord(
        version=version.version,
        aliases=list(version.aliases),
        decision=tags.get(versions.DECISION),
        promoted_at=tags.get(run_page.PROMOTED_AT),
        promoted_by=tags.get(run_page.PROMOTED_BY),
        promoted_because=tags.get(run_page.PROMOTED_BECAUSE),
        reasons=tags.get(versions.REASONS, "").splitlines(),
        metric=metric,
        value=interval.get("mean"),
        low=interval.get("ci_low"),
        high=interval.get("ci_high"),
        lists=_lists(evaluation.get("list_metric"), intervals),
    )


def _lists(metric: str | None, intervals: dict[str, Any]) -> Measured | None:
    """Return how good a version's lists were; None if that was not measured."""
    found = intervals.get(metric or "")
    if found is None or metric is None or found.get("mean") is None:
        return None
    low, high = found.get("ci_low"), found.get("ci_high")
    return Measured(metric=metric, value=found["mean"], low=low, high=high)
