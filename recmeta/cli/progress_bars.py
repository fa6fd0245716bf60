"""How long steps show that they are getting on: bars for people, a line per step for logs."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from recmeta.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console


@contextlib.contextmanager
def shown_progress() -> Iterator[Progress]:
    """Yield a callback for steps that draws on standard error.

    A terminal gets a bar for everything that is going on; anything else one line for each at its
    end.
    """
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if console.is_terminal:
        with _bars(console) as progress:
            yield progress
        return
    finished: set[str] = set()

    def line(what: str, done: int, total: int) -> None:
        if done >= total and what not in finished:
            finished.add(what)
            console.print(f"{what}: done", soft_wrap=True)

    yield line


@contextlib.contextmanager
def _bars(console: "Console") -> Iterator[Progress]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import (
        Progress as Bars,
    )

    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console) as bars:
        tasks = {}

        def update(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield update
