"""Configurations as TOML, which the standard library reads but does not write."""

import json
from collections.abc import Mapping
from typing import Any


def to_toml(values: Mapping[str, Any], where: str = "") -> str:
    """Return nested tables of plain values as TOML; None, which TOML does not have, is left out.

    Args:
        values: tables, lists, text, numbers and truth values, JSON-ready.
        where: the name of the table that they stand in.
    """
    plain = {n: v for n, v in values.items() if not isinstance(v, Mapping) and v is not None}
    lines = [f"{name} = {toml_value(value)}" for name, value in plain.items()]
    if where and (lines or not values):
        lines.insert(0, f"[{where}]")
    parts = ["\n".join(lines) + "\n"] if lines else []
    for name, value in values.items():
        if isinstance(value, Mapping):
            parts.append(to_toml(value, f"{where}.{name}" if where else name))
    return "\n".join(part for part in parts if part)


def toml_value(value: Any) -> str:
    """Return one value as TOML: it spells text and truth almost as JSON does."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(one) for one in value)}]"
    if isinstance(value, Mapping):  # in a list
        entries = [f"{name} = {toml_value(one)}" for name, one in value.items() if one is not None]
        return f"{{ {', '.join(entries)} }}"
    if isinstance(value, float):
        return repr(value)  # JSON has no infinity
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
