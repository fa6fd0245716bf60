"""features check: are the features online those of the tables?"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from recmeta.cli.command import Command
from recmeta.cli.commands.features.apply import REPOSITORY, Repository
from recmeta.cli.exits import DIFFERS
from recmeta.cli.options import CommonOptions
from recmeta.cli.output import Outcome

if TYPE_CHECKING:
    from recmeta.features.feast_skew import SkewReport


def check(
    common: CommonOptions,
    feature_store: Repository = REPOSITORY,
    sample: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Compare so many users and items, always the same ones. [default: all]",
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
    """Compare the features that are online with those of the tables,

    each view as of the end of its last materialisation; values must be exactly equal.

    Exit code 4: of some feature more than --max-share differs.
    """
    from recmeta.features.feast_repository import find, open_store

    find(feature_store)
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


COMMAND = Command(
    check,
    examples="""
recmeta features check

recmeta features check --sample 1000 --max-share 0.01 --json
""",
    after="apply",
)
