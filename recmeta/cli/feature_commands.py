"""materialise-features, and features: what the feature store defines, serves and gets wrong."""

import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recmeta.cli.command import DIFFERS
from recmeta.cli.options import CommonOptions, FeatureStore
from recmeta.cli.output import Outcome, as_list
from recmeta.cli.progress_bars import shown_progress
from recmeta.errors import UserError

if TYPE_CHECKING:
    from recmeta.features.feast_skew import SkewReport

REPOSITORY = "feature_store"

Repository = Annotated[
    str,
    typer.Option(
        "--feature-store",
        metavar="DIR",
        envvar="RECMETA_FEATURE_STORE",
        help="The Feast repository, or a configuration in it.",
    ),
]


def materialise(
    common: CommonOptions,
    feature_store: FeatureStore = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Online features are those known at this time, in ISO 8601, but never at an "
            "earlier one than last time. [default: now]",
        ),
    ] = None,
) -> Outcome:
    """Write the activity of users and items; with --feature-store, put all features online.

    With a feature store its definitions are applied, too. Doing it again changes nothing.
    """
    from recmeta.steps import materialise_features as step
    from recmeta.workspace import Workspace

    with shown_progress() as progress:
        manifest = step.run(
            Workspace(common.workspace),
            feature_store=feature_store,
            until=None if until is None else _parse_time(until),
            progress=progress,
        )
    data = {**manifest.summary(), "reused": manifest.reused}
    return Outcome(data=data, text=as_list(data))


def apply(common: CommonOptions, feature_store: Repository = REPOSITORY) -> Outcome:
    """Register what the feature repository defines over the tables of the workspace."""
    from recmeta.features.feast_repository import open_store
    from recmeta.steps import materialise_features as step
    from recmeta.workspace import Workspace

    step.apply(Workspace(common.workspace), feature_store)
    store = open_store(feature_store)
    data = {
        "feature_views": sorted(view.name for view in store.list_feature_views()),
        "feature_services": sorted(service.name for service in store.list_feature_services()),
    }
    return Outcome(data=data, text=as_list(data))


def check(
    common: CommonOptions,
    feature_store: Repository = REPOSITORY,
    sample: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Compare so many users and so many items, always the same ones. [default: all]",
        ),
    ] = None,
    max_share: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            min=0,
            max=1,
            help="Share of a feature's values that may differ.",
        ),
    ] = 0.0,
) -> Outcome:
    """Compare the features that are online with those of the tables.

    Each view as of the end of its last materialisation; values must be exactly equal.

    Exit code 4: of some feature more than --max-share differs.
    """
    from recmeta.features.feast_repository import open_store
    from recmeta.features.feast_skew import compare_views

    reports = compare_views(open_store(feature_store), sample)
    rows = [row for view, report in reports.items() for row in _features(view, report)]
    skewed = [row["feature"] for row in rows if row["share"] > max_share]
    return Outcome(
        data={"features": rows, "skewed": skewed, "max_share": max_share},
        text=_table(rows),
        note=f"Online and offline differ (exit code {DIFFERS}): {', '.join(skewed)}. `recmeta "
        "materialise-features` with --feature-store writes everything online again."
        if skewed
        else "",
        exit_code=DIFFERS if skewed else 0,
    )


def _features(view: str, report: "SkewReport") -> list[dict[str, Any]]:
    """Return a row per feature of a view: how many values were compared, how many differ."""
    different = dict(report.by_feature().iter_rows())
    return [
        {
            "feature": f"{view}:{name.removeprefix(f'{view}__')}",
            "as_of": report.as_of.isoformat(timespec="seconds"),
            "compared": report.num_rows,
            "different": different.get(name, 0),
            "share": different.get(name, 0) / report.num_rows,
        }
        for name in report.features
    ]


def _table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| feature | as of | compared | different | share |", "|---|---|---:|---:|---:|"]
    lines += [
        f"| {row['feature']} | {row['as_of']} | {row['compared']:,} | {row['different']:,} "
        f"| {row['share']:.2%} |"
        for row in rows
    ]
    return "\n".join(lines)


def _parse_time(text: str) -> datetime.datetime:
    """Return an ISO 8601 time; without a zone it is in UTC."""
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"--until is {text!r}; write it as 2026-01-31T00:00:00.") from error
    return time if time.tzinfo else time.replace(tzinfo=datetime.UTC)
