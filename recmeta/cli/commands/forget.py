"""forget: a user's data, out of everything that the workspace keeps."""

from typing import Annotated

import typer

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions, FeatureStore
from recmeta.cli.output import Outcome, as_list


def forget(
    common: CommonOptions,
    users: Annotated[
        list[str], typer.Argument(metavar="USER...", help="Their ids.", show_default=False)
    ],
    feature_store: FeatureStore = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What to write down of the request; no id."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> Outcome:
    """Remove users from every table and its history, from caches, the feature store and MLflow.

    Earlier versions of the tables are gone afterwards. Models that were trained on the users are
    marked for retraining. The files that were ingested are not touched: ingest them again, and the
    users are back.
    """
    from recmeta.steps.upkeep import forget as step

    workspace = common.open_workspace()
    if not yes and not common.as_json:
        typer.confirm(
            f"Remove {len(users)} of {workspace.location}'s users, and all history of its tables?",
            abort=True,
            err=True,
        )
    found = step.run(workspace, users, feature_store=feature_store, reference=reference)
    note = ""
    if found.models:
        note = (
            f"Trained on them, and marked for retraining: version {', '.join(found.models)}. "
            "`recmeta run` trains a new one."
        )
    elif not any(found.removed.values()):
        note = "Nothing of them was found: are the ids written as in the table interactions?"
    return Outcome(data=found.summary(), text=as_list(found.summary()), note=note)


COMMAND = Command(
    forget,
    examples="""
recmeta forget 42

recmeta forget 42 77 --reference "request 2026-118" --feature-store feature_store --yes
""",
    after="rebuild",
)
