"""forget: a user's data, out of everything that the workspace keeps."""

import sys
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
    from recmeta.errors import UserError
    from recmeta.steps.upkeep import forget as step

    workspace = common.open_workspace()
    workspace.require_made()
    if not yes and not common.as_json:
        question = (
            f"Remove {len(users)} of {workspace.location}'s users, and all history of its tables?"
        )
        if not _agreed(question):
            raise UserError("nothing was removed: answer y, or add --yes.")
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


def _agreed(question: str) -> bool:
    """Ask, and return whether the answer is yes; where nobody can answer, it is no."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort as error:  # Ctrl-C, or the end of standard input
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        sys.stderr.write("\n")
        return False


COMMAND = Command(
    forget,
    examples="""
recmeta forget 42

recmeta forget 42 77 --reference "request 2026-118" --feature-store feature_store --yes
""",
    after="rebuild",
)
