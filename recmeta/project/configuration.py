"""A configuration as a file to edit: every key with its meaning and its value, commented out.

What a key means is the docstring under its field, so that it is written once.
"""

import ast
import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from recmeta.config import to_dict
from recmeta.metalearn.member_config import Member
from recmeta.recipes import default
from recmeta.steps.parts.toml import to_toml, toml_value
from recmeta.training.config import MetaTrainConfig

WIDTH = 100
MODEL = "train"
"""The table whose keys are explained; those of the other models are the same."""
MEMBERS = "members"
ALIKE = ("implicit", "rival", "implicit_rival")
HEAD = """
Settings that `recmeta run --config recmeta.toml` lays over those of the recipe `default`.

A line that begins with # and a name is a setting with the value that it has anyway: remove the # to
change it. An unknown key is an error that names the nearest known one.
"""


def commented() -> str:
    """Return the recipe `default` as TOML in which every value is commented out."""
    config = default()
    parts = [_prose(HEAD)]
    for field in dataclasses.fields(config):
        if field.name not in ALIKE:
            parts.append(_table(getattr(config, field.name), field.name))
        if field.name == MODEL:
            parts += [_difference(config, name) for name in ALIKE]
    return "\n".join(parts)


def _table(config: Any, where: str) -> str:
    """Return a dataclass as a table, and those within it as tables of their own."""
    meanings, hints = field_docstrings(type(config)), typing.get_type_hints(type(config))
    lines, below = [f"[{where}]"], []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, Member):
            continue  # which it is, and how it is trained, stands in `members`
        if field.name == MEMBERS and value:
            below.append("\n".join([_prose(meanings[MEMBERS]), *_members(value, where)]) + "\n")
            continue
        if dataclasses.is_dataclass(value):
            below.append(_table(value, f"{where}.{field.name}"))
            continue
        lines.append(_prose(meanings.get(field.name, "") + _choices(hints[field.name])))
        plain = to_dict(config)[field.name]
        setting = f"#{field.name} = {toml_value(plain)}"
        lines.append(f"# {field.name} is not set." if plain is None else setting)
    return "\n".join([*lines, "", *below])


def _members(members: Sequence[MetaTrainConfig], where: str) -> list[str]:
    """Return members by their names alone: each is trained as is best for it."""
    lines = []
    for one in members:
        named = f'#model = {{ algorithm = "{one.model.algorithm}" }}'
        lines += [f"#[[{where}.{MEMBERS}]]", named]
    return lines


def _difference(config: Any, name: str) -> str:
    """Return where another model's configuration differs from that of the first."""
    meaning = field_docstrings(type(config))[name]
    values = to_dict(config)
    first, own = values[MODEL], values[name]
    if own is None:
        return _prose(f"[{name}] has the keys of [{MODEL}]. {meaning}") + "\n"
    found = _changed(first, own)
    members: Sequence[MetaTrainConfig] = ()
    if found.get(MEMBERS):
        members = getattr(config, name).members
        found.pop(MEMBERS)
        found.get("model", {}).get("learner", {}).pop("base", None)  # which `members` say
    changed = to_toml(found, name)
    head = _prose(f"{meaning} The keys are those of [{MODEL}]; these values are others than there:")
    lines = [f"#{x}" if x and not x.startswith("[") else x for x in changed.split("\n")]
    return "\n".join([head, *lines, *_members(members, name), *([""] if members else [])])


def _changed(first: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of `own` is not in `first`, table by table."""
    found: dict[str, Any] = {}
    for name, value in own.items():
        other = first.get(name)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            value = _changed(other, value)
            if value:
                found[name] = value
        elif name not in first or value != other:
            found[name] = value
    return found


def _prose(text: str) -> str:
    paragraphs = [" ".join(part.split()) for part in text.strip().split("\n\n")]
    wrapped = [textwrap.wrap(p, WIDTH - 2, break_long_words=False) for p in paragraphs]
    return "\n#\n".join("\n".join(f"# {line}" for line in lines) for lines in wrapped)


def _choices(hint: Any) -> str:
    if typing.get_origin(hint) is not typing.Literal:
        return ""
    return f" One of {', '.join(map(str, typing.get_args(hint)))}."


def field_docstrings(cls: type) -> dict[str, str]:
    """Return the docstrings that stand under the fields of a dataclass, by the field's name."""
    found: dict[str, str] = {}
    for base in reversed([c for c in cls.__mro__ if dataclasses.is_dataclass(c)]):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                found[field.target.id] = inspect.cleandoc(str(below.value.value))
    return found
