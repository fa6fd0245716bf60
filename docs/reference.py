"""The generated pages of the site: API, commands, configuration, licences of dependencies.

`docs/hooks.py` puts them into the site when it is built, so that no copy can grow old. Each
function of `PAGES` returns one page as Markdown.
"""

import dataclasses
import importlib
import importlib.metadata
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from recmeta.project.configuration import field_docstrings

MADE = "*This page is generated when the site is built.*\n"
BEYOND = {
    "What `open_workspace` returns": (
        "recmeta.analysis.open_workspace.OpenWorkspace",
        "recmeta.analysis.registered_model.RegisteredModel",
    ),
    "For authors of learners and baselines": (
        "recmeta.metalearn.learner.MetaLearner",
        "recmeta.metalearn.learner_config.LearnerConfig",
        "recmeta.evaluation.baseline.Baseline",
        "recmeta.evaluation.predictor.Predictor",
    ),
}
"""What the API's page shows beside the names of `recmeta`, by heading."""
GENERAL = "General"
"""The panel of options that every command has."""


# The Python API ----------------------------------------------------------------------------------


def api() -> str:
    """Return the page of the public API: what `recmeta.__all__` names, then what it returns."""
    recmeta = importlib.import_module("recmeta")
    parts = [
        "# The Python API",
        MADE,
        "Everything here is imported from `recmeta` itself.",
    ]
    for name in recmeta.__all__:
        if name != "__version__":
            parts.append(f"::: {recmeta._HOMES[name]}.{name}")
    for heading, names in BEYOND.items():
        parts.append(f"## {heading}")
        parts += [f"::: {name}\n    options:\n      heading_level: 3" for name in names]
    return "\n\n".join(parts) + "\n"


# Commands ----------------------------------------------------------------------------------------


def commands() -> str:
    """Return the page of every command with its arguments, options, defaults and examples."""
    import typer
    import typer.main

    from recmeta.cli.app import build

    application: Any = typer.main.get_command(build())
    parts = [
        "# Every command",
        MADE,
        "Exit codes and what holds for all commands: [the command line](../command-line.md).",
    ]
    for name, command in flat(application, "recmeta"):
        context = typer.Context(command, info_name=name)
        usage = " ".join(command.get_usage(context).removeprefix("Usage:").split())
        parts += [f"## {name}", command.help or "", f"    {usage}"]
        parts += [*_parameters(command, context), _examples(command.epilog or "")]
    return "\n\n".join(part for part in parts if part) + "\n"


def flat(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield every command with its full name, those of groups among them."""
    for below, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from flat(command, f"{name} {below}")
        else:
            yield f"{name} {below}", command


def _parameters(command: Any, context: Any) -> list[str]:
    """Return a table of arguments and options per panel of the help."""
    panels: dict[str, list[str]] = {}
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None:
            panel = getattr(parameter, "rich_help_panel", None)
            kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
            shown, text = (" ".join(part.split()) for part in record)
            row = f"| {_code(shown)} | {_cell(text)} |"
            panels.setdefault(panel or kind, []).append(row)
    in_order = sorted(panels, key=lambda panel: panel == GENERAL)  # what all commands have, last
    return ["\n".join([f"| {name} | |", "|---|---|", *panels[name]]) for name in in_order]


def _examples(epilog: str) -> str:
    lines = [line for line in epilog.split("\n") if line and not line.startswith("Example")]
    return "\n".join(f"    {line}" for line in lines)


# Configuration -----------------------------------------------------------------------------------


def configuration() -> str:
    """Return the page of every key of a configuration: type, default, meaning."""
    from recmeta.logs.mapping import LogMapping
    from recmeta.metalearn.registry import LEARNERS
    from recmeta.recipes import PipelineConfig

    parts = [
        "# Every configuration key",
        MADE,
        "A configuration is a TOML file for `--config`; its tables are the headings here. Defaults "
        "are those of the tables themselves. Recipes change some: `recmeta init` writes a file "
        "with every value of the recipe `default`. `implicit`, `rival` and `implicit_rival` have "
        "the keys of `train`.",
    ]
    parts += _tables(PipelineConfig, "")
    parts.append(
        "## Hyperparameters of learners\n\nThe table `[train.model.learner]` holds those of the "
        "learner that `train.model.algorithm` names."
    )
    for name in sorted(LEARNERS):
        config = LEARNERS[name]
        parts += [f"### `{name}`", _summary(config), _keys(config)]
    parts += [
        "## The mapping of a log",
        "Keys of a mapping file ([own logs](../how-to/own-logs.md)).",
    ]
    parts += ["### The log", _keys(LogMapping)]
    below = {t for f in _hints(LogMapping).values() for t in _dataclasses_in(f)}
    for one in sorted(below, key=lambda t: t.__name__):
        users = [n for n, hint in _hints(LogMapping).items() if one in _dataclasses_in(hint)]
        parts += [f"### {', '.join(f'`[{n}]`' for n in users)}", _keys(one)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _tables(config: type, where: str) -> list[str]:
    """Return a dataclass's keys under its name, then those of the tables within it."""
    parts = [f"## `[{where}]`", _summary(config), _keys(config)] if where else []
    for name, hint in _hints(config).items():
        if name in ("implicit", "rival", "implicit_rival", "members", "learner"):
            continue
        for below in _dataclasses_in(hint):
            parts += _tables(below, f"{where}.{name}".lstrip("."))
    return parts


def _keys(config: type) -> str:
    """Return a table of the keys that are no tables themselves."""
    meanings, rows = field_docstrings(config), []
    for field in dataclasses.fields(config):
        hint = _hints(config)[field.name]
        if _dataclasses_in(hint) and field.name != "members":
            continue
        cells = [
            _code(field.name),
            _code(_type(hint)),
            _default(field),
            _cell(meanings.get(field.name, "")),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return (
        "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows])
        if rows
        else ""
    )


def _summary(config: type) -> str:
    text = config.__doc__ or ""
    return "" if text.startswith(f"{config.__name__}(") else _cell(text.split("\n\n")[0])


def _hints(config: type) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(config)]
    hints = typing.get_type_hints(config)
    return {name: hints[name] for name in names}


def _dataclasses_in(hint: Any) -> list[type]:
    """Return the dataclasses that a type is or may be."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return [o for o in options if isinstance(o, type) and dataclasses.is_dataclass(o)]


def _type(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(f'"{value}"' for value in typing.get_args(hint))
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__name__
    return re.sub(r"(?:\w+\.)+(\w+)", r"\1", str(hint)).replace(" | ", " or ")


def _default(field: "dataclasses.Field[Any]") -> str:
    if field.default is not dataclasses.MISSING:
        return "not set" if field.default is None else _code(_plain(field.default))
    if field.default_factory is not dataclasses.MISSING:
        return _code(_plain(field.default_factory()))
    return "required"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list, frozenset, set)):
        return f"[{', '.join(_plain(one) for one in value)}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k} = {_plain(v)}" for k, v in value.items()) + "}"
    return f'"{value}"' if isinstance(value, str) else str(value)


# Licences ----------------------------------------------------------------------------------------


def dependency_licences() -> str:
    """Return the licences that the direct dependencies and all they bring say they have."""
    rows = [
        f"| {name} | {version} | {_cell(licence)} |"
        for name, version, licence in sorted(_licences())
    ]
    return (
        "\n\n".join(
            [
                "# Licences of dependencies",
                MADE,
                "What is installed where this site was built and belongs to recmeta's pins "
                "(`constraints.txt`), with the licence that each package's metadata names. The "
                "metadata is the packages' own; read the licence files before you rely on it.",
                "\n".join(["| package | version | licence |", "|---|---|---|", *rows]),
            ]
        )
        + "\n"
    )


def _licences() -> Iterator[tuple[str, str, str]]:
    from pathlib import Path

    pins = (Path(__file__).parents[1] / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for line in pins:
        if line.startswith("#"):
            continue
        name = line.partition("==")[0]
        try:
            found = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        yield name, found["Version"], licence_of(found)


def licence_of(metadata: Any) -> str:
    """Return a package's SPDX expression, else its classifiers, else the first line of a text."""
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = metadata.get_all("Classifier") or ()
    named = [c.rpartition(" :: ")[2] for c in classifiers if c.startswith("License :: ")]
    named = [n for n in named if n != "OSI Approved"]
    if named:
        return ", ".join(named)
    text = (metadata.get("License") or "").strip().partition("\n")[0]
    return text[:80] or "see its licence file"


# Cells -------------------------------------------------------------------------------------------


def _cell(text: str) -> str:
    """Return a text for one cell of a table."""
    flat = " ".join(text.split())
    return re.sub(r"([|\[\]])", r"\\\1", flat).replace("<", "&lt;")


def _code(text: str) -> str:
    return f"`{text.replace('|', '/')}`" if text else ""


PAGES: dict[str, Callable[[], str]] = {
    "reference/api.md": api,
    "reference/commands.md": commands,
    "reference/configuration.md": configuration,
    "reference/dependency-licences.md": dependency_licences,
}
"""What makes each generated page, by its place in the site."""
