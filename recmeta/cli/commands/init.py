"""init: a folder to work in."""

from pathlib import Path
from typing import Annotated

import typer

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions
from recmeta.cli.output import Outcome

Folder = Annotated[
    Path,
    typer.Argument(metavar="FOLDER", help="It is made where it is not there.", show_default=False),
]


def init(common: CommonOptions, folder: Folder) -> Outcome:
    """Lay out a project: Airflow's DAGs, a Feast repository, and a configuration to edit.

    Nothing is overwritten.
    """
    from recmeta.project.layout import lay_out

    files = lay_out(folder)
    return Outcome(
        data={"folder": str(folder), "files": files},
        text="\n".join(f"- {folder / name}" for name in files),
    )


COMMAND = Command(init, examples="recmeta init shop\n\nrecmeta init .")
