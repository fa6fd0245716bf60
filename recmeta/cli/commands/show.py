"""show: one user's list, its reasons, and what was known of the user."""

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions
from recmeta.cli.output import Outcome

if TYPE_CHECKING:
    from recmeta.steps.serving.show import ShownUser


def show(
    common: CommonOptions,
    user: Annotated[str, typer.Argument(metavar="USER", help="The user's id.", show_default=False)],
) -> Outcome:
    """Show a user's latest list, why each item is there, and what was known of the user.

    A user of the log who has no list in the table `recommendations` is shown the list that the
    champion makes of the log now; it is not published.
    """
    workspace = common.open_workspace()
    from recmeta.steps.serving import show as step

    found = step.published_list(workspace, user)
    note = ""
    if found is None:
        found = step.list_of_log(workspace, user)
        note = "This user has no list in the table recommendations: it was made of the log now."
    return Outcome(data=dataclasses.asdict(found), text=_text(found), note=note)


def _text(found: "ShownUser") -> str:
    from recmeta.markup import inline
    from recmeta.reporting.lists import known, ranked

    made = f"Made at {found.scored_at} by version {found.model_version} of the model"
    made += "." if found.run is None else f", in run {found.run}."
    if found.dates:
        made += f" It stands for {', '.join(found.dates)}."
    before = "The interactions that the list was made from have been cleaned up since."
    if found.interactions is not None:
        before = known(found.interactions, found.profile or {})
    return "\n\n".join([f"# {inline(found.user_id)}", before, made, ranked(found.recommendations)])


COMMAND = Command(
    show,
    examples="""
recmeta show alice

recmeta show 42 --workspace ws --json
""",
    after="score",
)
