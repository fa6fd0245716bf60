"""backup: a whole copy of the workspace, while other commands go on."""

import dataclasses
from typing import Annotated

import typer

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions
from recmeta.cli.output import Outcome, as_list


def backup(
    common: CommonOptions,
    folder: Annotated[
        str,
        typer.Argument(metavar="FOLDER", help="Where the copy is to be; nothing is there yet."),
    ],
) -> Outcome:
    """Copy the workspace into a folder, whole, while other commands go on.

    The copy is a workspace: `--workspace FOLDER` uses it, there or wherever it is moved. Commands
    that write wait (--wait) or are refused meanwhile; training goes on.
    """
    from recmeta.steps.upkeep import backup as step

    data = dataclasses.asdict(step.run(common.open_workspace(), folder))
    return Outcome(data=data, text=as_list(data))


COMMAND = Command(backup, examples="recmeta backup /backups/2026-11-30 --wait 600", after="forget")
