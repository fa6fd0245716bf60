"""data fetch: a public data set, once."""

from pathlib import Path
from typing import Annotated

import typer

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions
from recmeta.cli.output import Outcome, as_list
from recmeta.reporting.progress_bars import shown_progress

CacheOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where data sets are kept. [default: ~/.cache/recmeta]"),
]


def fetch(
    common: CommonOptions,
    name: Annotated[str, typer.Argument(help="ml-100k, ml-1m or book-crossing.")],
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="PATH", help="A local copy: the original zip file or its folder."
        ),
    ] = None,
    cache: CacheOption = None,
) -> Outcome:
    """Download a public data set once, check it, and keep it."""
    from recmeta.logs.fetching import datasets

    with shown_progress() as progress:
        folder = datasets.fetch(name, cache, from_, progress)
    files = sorted(path.name for path in folder.iterdir())
    data = {"name": name, "folder": str(folder), "files": files}
    return Outcome(data=data, text=as_list(data))


COMMAND = Command(
    fetch,
    examples="""
recmeta data fetch ml-1m

recmeta data fetch ml-1m --from ml-1m.zip
""",
)
