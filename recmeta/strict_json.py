"""JSON as RFC 8259 has it, and as nobody can read it in two ways.

Python's own parser takes NaN, Infinity and halves of letters, and of a key that stands twice the
last value, where another parser takes the first.
"""

import json
from typing import Any, NoReturn

MAX_DEPTH = 100


class RepeatedKeyError(ValueError):
    """A key stands twice in an object."""


def loads(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Args:
        text: bytes are UTF-8.

    Raises:
        ValueError: where it is not JSON.
        RepeatedKeyError: where an object has a key twice.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    # Each level begins with a bracket: few of them are found in a tenth of the time.
    if text.count("[") + text.count("{") > MAX_DEPTH and is_deep(value):
        raise ValueError("it is nested too deeply")
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()  # halves of letters have no bytes
    return value


def is_deep(value: Any) -> bool:
    """Return whether tables and lists are nested more than `MAX_DEPTH` deep."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        inside = (one.values() if isinstance(one, dict) else one for one in level)
        level = [one for within in inside for one in within if isinstance(one, dict | list)]
        if not level:
            return False
    return bool(level)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise RepeatedKeyError(f"the key {key!r} stands twice in an object")
            seen.add(key)
    return found


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
