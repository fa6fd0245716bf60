"""What commands print: the result alone on standard output, everything else on standard error."""

import contextlib
import dataclasses
import json
import logging
import math
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recmeta.errors import UserError
from recmeta.errors.secrets import MaskingFilter, masked, masked_values
from recmeta.markup import visible

_MASKING = MaskingFilter()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command found."""

    data: Mapping[str, Any]
    """What `--json` prints."""
    text: str
    """The same for people, as Markdown."""
    note: str = ""
    """A line for standard error."""
    exit_code: int = 0


def show(outcome: Outcome, *, as_json: bool) -> None:
    """Print an outcome: one line of JSON, or Markdown, rendered where a person reads it."""
    if as_json:
        sys.stdout.write(to_json(masked_values(outcome.data)) + "\n")
    elif sys.stdout.isatty():
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(visible(masked(outcome.text))))
    else:
        sys.stdout.write(visible(masked(outcome.text)).rstrip("\n") + "\n")
    sys.stdout.flush()
    if outcome.note:
        tell(outcome.note)


def tell(text: str, *, kind: str = "") -> None:
    """Print a paragraph on standard error.

    Args:
        kind: `error`, `warning` or empty; stands before the paragraph.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    said = Text(visible(masked(text)))
    paragraph = Text(f"{kind}: ", style="bold red") + said if kind else said
    console.print(paragraph, soft_wrap=not console.is_terminal)


def write_file(path: Path, data: bytes, option: str) -> None:
    """Write what an option asks for into a file.

    Raises:
        UserError: where it cannot be written.
    """
    try:
        path.expanduser().write_bytes(data)
    except OSError as error:
        raise UserError(f"{option} {str(path)!r} cannot be written: {error.strerror}.") from error


def to_json(data: Any) -> str:
    """Return one line of strict JSON; numbers that are not finite become null."""
    return json.dumps(_finite(data), allow_nan=False, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def as_list(data: Mapping[str, Any]) -> str:
    """Return a Markdown list with a line per entry."""
    return "\n".join(f"- {name.replace('_', ' ')}: {_plain(v)}" for name, v in data.items())


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)


@contextlib.contextmanager
def quiet_libraries(*, debug: bool) -> Iterator[None]:
    """Keep what libraries print off standard output, and their chatter off the screen.

    With `debug` their warnings and log lines are shown, on standard error.
    """
    level = logging.INFO if debug else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_MASKING)
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(level)
    logging.getLogger("urllib3").setLevel(logging.INFO if debug else logging.ERROR)
    # It prints the trace of each error that it raises; what comes of that is said once, at the end.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.INFO if debug else logging.CRITICAL)
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        if not debug:
            warnings.simplefilter("ignore")
        yield
