"""The history of the job: the newest days' volumes, drift and lists, and latencies.

All of it is already on record: in the manifests of the steps, in the drift reports, in the table of
published lists, and in the metrics of this process.
"""

from collections.abc import Iterator

import polars as pl
from pydantic import BaseModel, Field

from recmeta import schema
from recmeta.endpoint.operation.metrics import Metrics
from recmeta.errors import Broken, UserError
from recmeta.logs import tables
from recmeta.manifest import finished
from recmeta.steps.data import ingest
from recmeta.steps.parts import days
from recmeta.steps.upkeep import drift
from recmeta.workspace import Workspace, sealed

MOST = 60
"""The number of points of a chart, which are the newest."""


class Volume(BaseModel):
    """The rows of one ingest."""

    at: str = Field(description="The day of the log, where it came day by day; else when it ran.")
    new: int = Field(description="Rows that were not known.")
    quarantined: int


class DriftPoint(BaseModel):
    """One drift report."""

    at: str
    model_version: str
    largest: float = Field(description="The largest population stability index.")
    model_mae: float | None = Field(description="The champion's error on the day's ratings.")
    item_mean_mae: float | None
    findings: int


class Published(BaseModel):
    """The lists of a day."""

    at: str
    users: int
    model_version: str


class Latency(BaseModel):
    """How long lists took, since this process started."""

    requests: int
    seconds: list[float] = Field(description="Upper edges of the histogram, the last one open.")
    counts: list[int] = Field(description="Lists in each interval, one more than there are edges.")


class History(BaseModel):
    """The newest points of each, the oldest first."""

    volumes: list[Volume]
    drift: list[DriftPoint]
    published: list[Published]


def history(workspace: Workspace) -> History:
    """Return the history that the workspace has on record."""
    return History(
        volumes=list(_volumes(workspace))[-MOST:],
        drift=list(_drift(workspace))[-MOST:],
        published=_published(workspace),
    )


def latency(metrics: Metrics, route: str) -> Latency:
    """Return the histogram of the answers of a route that were lists (status 200)."""
    edges: list[float] = []
    below: list[int] = []
    for family in metrics.seconds.collect():
        for sample in family.samples:
            labels = sample.labels
            if not sample.name.endswith("_bucket") or labels["route"] != route:
                continue
            if str(labels["status"]) == "200":
                edges.append(float(labels["le"]))
                below.append(int(sample.value))
    counts = [now - before for now, before in zip(below, [0, *below], strict=False)]
    return Latency(requests=sum(counts), seconds=edges[:-1], counts=counts)


def _volumes(workspace: Workspace) -> Iterator[Volume]:
    """Yield the rows of each day's log, in order; if there are not two days, the rows of each
    ingest."""
    by_key = {days.ingest_of(workspace, day): day for day in days.ingested_days(workspace)}
    daily: list[Volume] = []
    others: list[Volume] = []
    for manifest in finished(workspace, ingest.STEP):
        counts, day = manifest.counts, by_key.get(manifest.key)
        if counts.get("rows_read"):
            new = counts["rows_read"] - counts["duplicates"] - counts["quarantined"]
            at = manifest.finished_at if day is None else day.isoformat()
            volume = Volume(at=at, new=max(new, 0), quarantined=counts["quarantined"])
            (others if day is None else daily).append(volume)
    # The first log is often years at once, beside which a day cannot be seen.
    found = daily if len(daily) > 1 else [*daily, *others]
    yield from sorted(found, key=lambda volume: volume.at)


def _drift(workspace: Workspace) -> Iterator[DriftPoint]:
    found = []
    for manifest in finished(workspace, drift.STEP):
        try:
            report = sealed(workspace / manifest.outputs.report).read_json("drift.json")
        except (Broken, UserError, ValueError, FileNotFoundError):
            continue  # `recmeta doctor` says so
        error = report["live_error"] or {}
        point = DriftPoint(
            at=report["day"],
            model_version=report["model_version"],
            largest=max(report["stability_index"].values(), default=0.0),
            model_mae=error.get("model_mae"),
            item_mean_mae=error.get("item_mean_mae"),
            findings=len(report["findings"]),
        )
        found.append(point)
    yield from sorted(found, key=lambda point: point.at)


def _published(workspace: Workspace) -> list[Published]:
    if not workspace.exists(schema.PUBLISHED.path):
        return []
    day, version = pl.col(schema.DATE), pl.col(schema.MODEL_VERSION)
    newest = version.sort_by(version.cast(pl.Int64, strict=False)).last()  # 10 is above 9
    rows = (
        tables.scan(workspace, schema.PUBLISHED)
        .group_by(day)
        .agg(pl.col(schema.NUM_USERS).sum(), newest)
        .sort(day)
        .tail(MOST)
        .collect()
    )
    return [
        Published(at=date.isoformat(), users=users, model_version=number)
        for date, users, number in rows.iter_rows()
    ]
