"""materialise-features: activity of users and items, and all features online."""

import datetime
from typing import Annotated

import typer

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions, FeatureStore
from recmeta.cli.output import Outcome, as_list
from recmeta.errors import UserError
from recmeta.reporting.progress_bars import shown_progress


def materialise_features(
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
    from recmeta.steps.data import materialise_features as step

    with shown_progress() as progress:
        manifest = step.run(
            common.open_workspace(),
            feature_store=feature_store,
            until=None if until is None else _parse_time(until),
            progress=progress,
        )
    data = {**manifest.summary(), "reused": manifest.reused}
    return Outcome(data=data, text=as_list(data))


def _parse_time(text: str) -> datetime.datetime:
    """Return an ISO 8601 time; without a zone it is in UTC."""
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"--until is {text!r}; write it as 2026-01-31T00:00:00.") from error
    return time if time.tzinfo else time.replace(tzinfo=datetime.UTC)


COMMAND = Command(
    materialise_features,
    examples="""
recmeta materialise-features

recmeta materialise-features --feature-store feature_store --until 2026-02-01
""",
    after="ingest",
    steps=("materialise-features",),
)
