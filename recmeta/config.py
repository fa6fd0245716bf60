"""Strict parsing of configurations, which are frozen dataclasses.

Every configuration is a frozen, keyword-only dataclass beside the code that reads it. This file
turns mappings (from TOML, JSON or the command line) into them and back, and fingerprints them.
"""

import dataclasses
import functools
import hashlib
import json
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from recmeta.errors import UserError, did_you_mean
from recmeta.handwritten import read_text
from recmeta.strict_json import is_deep


class Dataclass(Protocol):
    """The attribute that every dataclass has."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


T = TypeVar("T", bound=Dataclass)


def parse(cls: type[T], data: Mapping[str, Any], where: str = "") -> T:
    """Build the dataclass `cls` from a mapping, checking names and types.

    A dataclass of which one field's type depends on another field's value has a class method
    `before_parsing(data, where)`, which returns `data` with such a field parsed already.

    Args:
        cls: a dataclass, possibly with dataclasses, tuples, optionals and literals as fields.
        data: the values by field name; absent ones take the field's default.
        where: the path to `data` in the user's file, for messages.

    Raises:
        UserError: for an unknown key (naming the nearest known one), a missing one, a wrong type or
            a value that the dataclass refuses.
    """
    before_parsing = getattr(cls, "before_parsing", None)
    if before_parsing is not None:
        data = before_parsing(data, where)
    hints, fields = _of_class(cls)
    for key in data:
        if key not in fields:
            raise UserError(
                f"unknown key {_join(where, key)!r}.{did_you_mean(key, list(fields))} "
                f"Known keys: {', '.join(fields)}."
            )
    values = {k: _convert(hints[k], v, _join(where, k)) for k, v in data.items()}
    for name, field in fields.items():
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and name not in values:
            raise UserError(f"missing key {_join(where, name)!r}: give it a value.")
    try:
        return cls(**values)
    except ValueError as error:  # the dataclass refuses the values
        raise UserError(f"{where}: {error}" if where else str(error)) from error


def read_toml(path: Path, what: str = "configuration") -> dict[str, Any]:
    """Return the tables of a TOML file.

    Args:
        what: a name for the kind of file, for messages.

    Raises:
        UserError: if it cannot be read, or is not TOML.
    """
    text = read_text(path, what)
    try:
        values = tomllib.loads(text)
        if is_deep(values):
            raise RecursionError
    except RecursionError:
        raise UserError(f"the {what} {str(path)!r} is nested too deeply to be read.") from None
    except ValueError as error:
        raise UserError(f"the {what} {str(path)!r} is not valid TOML: {error}") from error
    return values


def to_dict(config: Any) -> dict[str, Any]:
    """Return a dataclass as plain JSON-ready values (tuples become lists)."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `over`, table by table."""
    result = dict(base)
    for name, value in over.items():
        known = base.get(name)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            value = merged(known, value)
        result[name] = value
    return result


def fingerprint(*parts: Any) -> str:
    """Return 16 hex digits that identify JSON-ready values and dataclasses, in order."""
    plain = [to_dict(p) if dataclasses.is_dataclass(p) else p for p in parts]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def _of_class(cls: type[Any]) -> tuple[dict[str, Any], dict[str, dataclasses.Field[Any]]]:
    """Return the types of a dataclass's fields, and the fields that it is made of, by name."""
    return typing.get_type_hints(cls), {f.name: f for f in dataclasses.fields(cls) if f.init}


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        remaining = [a for a in args if a is not type(None)]
        for option in remaining[:-1]:
            try:
                return _convert(option, value, where)
            except UserError:
                continue
        return _convert(remaining[-1], value, where)
    if origin is typing.Literal:
        if value not in args:
            hint_text = did_you_mean(str(value), [str(a) for a in args])
            raise UserError(f"{where} is {value!r}; it must be one of {list(args)}.{hint_text}")
        return value
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, (list, tuple)):
            raise UserError(f"{where} is {value!r}; it must be a list.")
        if args[-1] is Ellipsis:
            return tuple(_convert(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
        if len(value) != len(args):
            raise UserError(f"{where} has {len(value)} entries; it must have {len(args)}.")
        pairs = zip(args, value, strict=True)
        return tuple(_convert(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(pairs))
    if origin in (dict, Mapping, typing.get_origin(Mapping[str, Any])):
        if not isinstance(value, Mapping):
            raise UserError(f"{where} is {value!r}; it must be a table of names and values.")
        return {str(k): _convert(args[1], v, _join(where, str(k))) for k, v in value.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            return value
        if not isinstance(value, Mapping):
            raise UserError(f"{where} is {value!r}; it must be a table of names and values.")
        return parse(hint, value, where)
    if hint is float and isinstance(value, float) and math.isnan(value):
        raise UserError(f"{where} is nan; it must be a number.")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise UserError(f"{where} is {value}, which is beyond all floats.") from error
    if hint is Any:
        return value
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise UserError(f"{where} is {value!r}; it must be of type {hint.__name__}.")
    return value
