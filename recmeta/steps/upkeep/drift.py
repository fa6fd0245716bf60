"""the champion's training data and today's ──▶ a drift report, and whether to train again.

The report answers four questions: do the users and items of these days look like those that the
champion was trained on, do its scores have the same distribution as before, does it know the items
that people interact with, and are its predictions for them still accurate?
"""

import dataclasses
import datetime
from typing import Any

import polars as pl
import pyarrow as pa

from recmeta import schema
from recmeta.config import to_dict
from recmeta.errors import UserError
from recmeta.features.attributes import newest
from recmeta.features.stability import stability
from recmeta.logs import tables
from recmeta.manifest import Manifest, find, finished, forget, run_once
from recmeta.metalearn.model import Model
from recmeta.records.step_definition import Folders, Step
from recmeta.registry.models import versions
from recmeta.registry.models.versions import Version
from recmeta.steps.learning import meta_train
from recmeta.steps.parts.live_error import live_error
from recmeta.steps.serving.publish import lists_of
from recmeta.tasks.task_set import TaskSet
from recmeta.workspace import Workspace, sealing


@dataclasses.dataclass(frozen=True, kw_only=True)
class DriftConfig:
    """What is measured, and its limits."""

    window_days: int = 7
    """The number of days, up to the day itself, that count as "now"."""
    max_stability_index: float = 0.25
    """The largest population stability index of an attribute, of the values or of the scores,
    beyond what chance alone explains."""
    max_unknown_items: float = 0.2
    """The largest share of the window's interactions with items that the champion does not know."""
    min_rows: int = 200
    """Smaller samples are ignored."""

    def __post_init__(self) -> None:
        if self.window_days < 1 or self.min_rows < 1:
            raise UserError(
                f"window_days is {self.window_days} and min_rows {self.min_rows}; both must be at "
                "least 1."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DriftOutputs:
    """The outputs of drift."""

    report: str
    """Folder of the day's report, in the workspace."""
    retrain: bool
    """Whether anything is beyond its limit."""
    findings: tuple[str, ...]
    """Sentences on what is beyond its limit."""


STEP = Step(
    "drift", DriftOutputs, is_long=True, leaves=(Folders(lambda outputs: [outputs.report]),)
)


def run(
    workspace: Workspace, day: datetime.date, config: DriftConfig | None = None
) -> Manifest[DriftOutputs]:
    """Write the drift report of a day: `drift.json` and, for people, `drift.md`.

    Raises:
        UserError: if there is no champion yet.
    """
    config = config or DriftConfig()
    champion = versions.champion(workspace)
    if champion is None:
        raise UserError("there is no champion to watch yet: run the pipeline first.")
    versions_read = tables.versions(workspace)

    def work(key: str) -> tuple[DriftOutputs, dict[str, int]]:
        model = Model.load(versions.model_folder(workspace, champion))
        window = _window(workspace, day, config.window_days).collect()
        report: dict[str, Any] = {
            "day": day.isoformat(),
            "model_version": champion.version,
            "stability_index": _stability(workspace, model, champion, window, day, config),
            "unknown_items": _unknown_items(model, window),
            "live_error": None,
        }
        error = live_error(workspace, model, day)
        if error is not None:
            report["live_error"] = dataclasses.asdict(error)
        findings = _findings(report, window.height, config)
        report["findings"] = findings
        place = f"reports/drift/{day.isoformat()}"
        for earlier in finished(workspace, STEP):  # of the same day, whose report goes
            if earlier.outputs.report == place:
                forget(workspace, STEP, earlier.key)
        with sealing(workspace / place) as folder:
            folder.write_json("drift.json", report)
            folder.write_bytes("drift.md", _markdown(report).encode())
        outputs = DriftOutputs(
            report=place,
            retrain=bool(findings),
            findings=tuple(findings),
        )
        return outputs, {"interactions": window.height}

    return run_once(
        workspace,
        STEP,
        config={"day": day.isoformat(), **to_dict(config)},
        inputs={"model": champion.model_key or champion.version, **versions_read},
        work=work,
    )


def _window(workspace: Workspace, day: datetime.date, num_days: int) -> pl.LazyFrame:
    on_day = pl.col(schema.TIMESTAMP).dt.date()
    earliest = day - datetime.timedelta(days=num_days - 1)
    return tables.scan(workspace, schema.INTERACTIONS).filter(on_day.is_between(earliest, day))


def _stability(
    workspace: Workspace,
    model: Model,
    champion: Version,
    window: pl.DataFrame,
    day: datetime.date,
    config: DriftConfig,
) -> dict[str, float]:
    """Return by name each index of a large enough sample, minus what chance explains."""
    pairs = _scores(workspace, champion, day)
    trained = find(workspace, meta_train.STEP, champion.model_key or "")
    tasks = None if trained is None else meta_train.tasks_of(workspace, trained)
    if tasks is not None:
        task_set = TaskSet(workspace / tasks.outputs.tasks)
        pairs |= _attributes(workspace, model, task_set, window)
    found = {}
    for name, (reference, now) in pairs.items():
        if len(reference) < config.min_rows or len(now) < config.min_rows:
            continue
        compared = stability(reference, now)
        if compared is not None:
            found[name] = round(compared.excess, 4)
    return found


def _scores(
    workspace: Workspace, champion: Version, day: datetime.date
) -> dict[str, tuple[pl.Series, pl.Series]]:
    """Return the scores of the first day that the champion served, and of this day."""
    if schema.PUBLISHED.name not in (workspace / "tables").names():
        return {}
    published = tables.scan(workspace, schema.PUBLISHED)
    own = published.filter(pl.col(schema.MODEL_VERSION) == champion.version)
    days = own.select(pl.col(schema.DATE).unique().sort()).collect().to_series().to_list()
    if day not in days or days[0] == day:
        return {}
    return {
        schema.SCORE: (
            lists_of(workspace, days[0])[schema.SCORE],
            lists_of(workspace, day)[schema.SCORE],
        )
    }


def _attributes(
    workspace: Workspace, model: Model, task_set: TaskSet, window: pl.DataFrame
) -> dict[str, tuple[pl.Series, pl.Series]]:
    """Return values, users' and items' attributes: the meta-training users', and the window's."""
    train = task_set.tasks("train")
    rows = pl.DataFrame(
        {
            schema.ITEM_ID: pl.Series(
                task_set.items().item_id.take(
                    pa.concat_arrays([pa.array(train.support.item), pa.array(train.query.item)])
                )
            ),
            schema.VALUE: pl.concat([pl.Series(train.support.value), pl.Series(train.query.value)]),
        }
    )
    pairs = {}
    if model.objective == "rating":
        pairs[schema.VALUE] = (rows[schema.VALUE].cast(pl.Float64), window[schema.VALUE])
    before = pl.DataFrame(pl.from_arrow(train.profile))
    now = (
        window.select(schema.USER_ID)
        .unique()
        .join(_newest(workspace, schema.USERS), on=schema.USER_ID, how="left")
    )
    fields = [(schema.USERS, model.encoder.user_fields, before, now)]
    items = _newest(workspace, schema.ITEMS)
    before = rows.join(items, on=schema.ITEM_ID, how="left")
    now = window.select(schema.ITEM_ID).join(items, on=schema.ITEM_ID, how="left")
    fields.append((schema.ITEMS, model.encoder.item_fields, before, now))
    for table, own, reference, current in fields:
        for field in own:
            if field.name in current.columns and field.name not in table.key:
                pairs[f"{table.name}.{field.name}"] = (
                    reference[field.name],
                    current[field.name],
                )
    return pairs


def _newest(workspace: Workspace, table: schema.Table) -> pl.DataFrame:
    return newest(tables.scan(workspace, table), table.key[0]).collect()


def _unknown_items(model: Model, window: pl.DataFrame) -> float | None:
    known = pl.Series(model.catalogue.items.item_id)
    share = (~window[schema.ITEM_ID].is_in(known.implode())).mean()
    return None if share is None else round(float(str(share)), 4)


def _findings(report: dict[str, Any], num_rows: int, config: DriftConfig) -> list[str]:
    findings = [
        f"{name} has moved: its population stability index is {index:.2f}, above "
        f"{config.max_stability_index:g}."
        for name, index in report["stability_index"].items()
        if index > config.max_stability_index
    ]
    unknown = report["unknown_items"]
    if num_rows >= config.min_rows and unknown is not None and unknown > config.max_unknown_items:
        findings.append(
            f"{unknown:.0%} of the interactions are with items that the champion does not know, "
            f"above {config.max_unknown_items:.0%}."
        )
    error = report["live_error"]
    if error and error["rows"] >= config.min_rows and error["model_mae"] > error["item_mean_mae"]:
        findings.append(
            f"On the day's {error['rows']} ratings the champion's MAE is {error['model_mae']:.3f}, "
            f"worse than that of the item mean ({error['item_mean_mae']:.3f})."
        )
    return findings


def _markdown(report: dict[str, Any]) -> str:
    """Return the report for people."""
    lines = [
        f"# Drift on {report['day']}, champion {report['model_version']}",
        "",
        *(f"- {finding}" for finding in report["findings"] or ["Nothing exceeds its limit."]),
        "",
        "| what | stability index |",
        "|---|---|",
        *(f"| {name} | {index:.3f} |" for name, index in sorted(report["stability_index"].items())),
        "",
    ]
    if report["unknown_items"] is not None:
        lines += [f"Interactions with unknown items: {report['unknown_items']:.1%}.", ""]
    if report["live_error"]:
        error = report["live_error"]
        lines += [
            f"MAE on the day's {error['rows']} ratings: champion {error['model_mae']:.3f}, item "
            f"mean {error['item_mean_mae']:.3f}.",
            "",
        ]
    return "\n".join(lines)
