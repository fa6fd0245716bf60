"""Where the slopes of this machine are kept, and those that stand in where none were measured."""

import json
import math
import os
from pathlib import Path

from recmeta import strict_json
from recmeta.capacity.shipped import SHIPPED
from recmeta.capacity.slopes import Size, Slopes
from recmeta.config import parse, to_dict
from recmeta.errors import UserError

FILE = "slopes.json"
ROWS_PER_USER = 40
ITEMS_PER_ROOT = 10


def place() -> Path:
    """Return the file of this user's slopes: they are of a machine, not of a workspace."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "recmeta" / FILE


def keep(slopes: Slopes) -> Path:
    """Keep the slopes of this machine, and return where."""
    path = place()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(to_dict(slopes), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"the slopes cannot be kept in {path}: {error.strerror}.") from error
    return path


def slopes() -> Slopes:
    """Return the slopes of this machine, or those of another one where it was not measured.

    Raises:
        UserError: where the file is not what was written.
    """
    path = place()
    if not path.exists():
        return parse(Slopes, SHIPPED)
    try:
        return parse(Slopes, strict_json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError, TypeError) as error:  # or JSON of another form
        raise UserError(
            f"{path} cannot be read ({error}): run `recmeta plan --measure` again, or delete it."
        ) from error


def size_of(rows: float, users: float | None, items: float | None, scored: float | None) -> Size:
    """Return a size, with what was not given as logs mostly are.

    Raises:
        UserError: for a number that is none of a log.
    """
    users = rows / ROWS_PER_USER if users is None else users
    items = ITEMS_PER_ROOT * math.sqrt(max(rows, 0)) if items is None else items
    size = Size(rows=rows, users=users, items=items, scored=users if scored is None else scored)
    for name, number in to_dict(size).items():
        if not (math.isfinite(number) and number >= (0 if name == "scored" else 1)):
            raise UserError(f"{name} is {number:g}; it must be a number of at least 1.")
    if users > rows:
        raise UserError(f"users is {users:g} and rows {rows:g}: a user has at least one row.")
    return size
