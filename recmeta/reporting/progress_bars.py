"""How long steps show that they are getting on: bars for people, a line per step for logs."""

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from recmeta.progress import Progress, silent

if TYPE_CHECKING:
    from rich.console import Console


@contextlib.contextmanager
def shown_progress(*, shown: bool = True) -> Iterator[Progress]:
    """Yield a callback for steps that draws on standard error.

    A terminal and a notebook get a bar for everything that is going on, if Rich is installed;
    anything else one line for each at its end.

    Args:
        shown: whether anything is drawn at all.
    """
    if not shown:
        yield silent
        return
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        with _line_by_line() as progress:
            yield progress
        return
    console = Console(stderr=True, highlight=False)
    if console.is_terminal or console.is_jupyter:
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
def _line_by_line() -> Iterator[Progress]:
    """Yield a callback that rewrites one line of a terminal; elsewhere it writes each end."""
    rewrites = sys.stderr.isatty()
    finished: set[str] = set()

    def line(what: str, done: int, total: int) -> None:
        ended = done >= total
        if what in finished or not (rewrites or ended):
            return
        start = "\r" if rewrites else ""
        sys.stderr.write(f"{start}{what}: {'done' if ended else f'{done} of {total}':<24}".rstrip())
        if ended:
            finished.add(what)
            sys.stderr.write("\n")
        sys.stderr.flush()

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
