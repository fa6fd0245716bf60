"""report: what the last run found."""

from recmeta.cli.command import Command
from recmeta.cli.options import (
    CommonOptions,
)
from recmeta.cli.output import Outcome


def report(common: CommonOptions) -> Outcome:
    """Show the report of the last run."""
    from recmeta.errors import UserError
    from recmeta.workspace import REPORT

    workspace = common.open_workspace()
    if not workspace.exists(REPORT):
        raise UserError(
            f"the workspace {workspace.location} has no report yet: `recmeta run` writes one."
        )
    text = workspace.read_bytes(REPORT).decode()
    path = f"{workspace.location}/{REPORT}"
    return Outcome(data={"path": path, "report": text}, text=text)


COMMAND = Command(report, examples="recmeta report -w workspace", after="forget")
