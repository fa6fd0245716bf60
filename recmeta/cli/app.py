"""The application: the commands of `recmeta/cli/commands/`, in the order of the flow."""

import importlib
import importlib.metadata
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Annotated

import typer

from recmeta.cli.command import Command, command
from recmeta.plugins import Registry

HELP = "Recommendations for users who are new, by meta-learning: from logs to ranked lists."
PACKAGE = "recmeta.cli.commands"
COMMANDS: Registry[Command] = Registry("command", package=PACKAGE, attribute="COMMAND")
"""Commands by name. A file in a folder is a command of a group, which the folder names and its
docstring explains."""


def build() -> typer.Typer:
    """Return the application. Commands import what they need when they are called."""
    app = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode="markdown",
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(help=HELP)(_global)
    groups: dict[str, dict[str, Command]] = defaultdict(dict)
    for name, found in COMMANDS.items():
        groups[_group_of(name)][name] = found
    _add(groups.pop(""), app)
    for group, commands in sorted(groups.items()):
        help_text = importlib.import_module(f"{PACKAGE}.{group}").__doc__
        below = typer.Typer(help=help_text, no_args_is_help=True)
        _add(commands, below)
        app.add_typer(below, name=group)
    return app


def in_order(commands: Mapping[str, Command]) -> list[str]:
    """Return the names with each one after the command that it is listed after.

    Those that are listed after none of the others come first; those after the same one are in
    alphabetical order.
    """

    def following(place: str | None) -> Iterator[str]:
        for name in sorted(commands):
            after = commands[name].after
            if (after if after in commands else None) == place:
                yield name
                yield from following(name)

    return list(following(None))


def _group_of(name: str) -> str:
    """Return the folder that a command's file is in; empty where it is in none, or not ours."""
    module = COMMANDS.module_of(name)
    if not module.startswith(f"{PACKAGE}."):
        return ""
    return module.removeprefix(f"{PACKAGE}.").rpartition(".")[0]


def _add(commands: Mapping[str, Command], app: typer.Typer) -> None:
    for name in in_order(commands):
        found = commands[name]
        examples = found.examples.strip()
        heading = "Examples:" if "\n\n" in examples else "Example:"
        ready = command(found.function, found.needs, found.steps)
        app.command(name, epilog=f"{heading}\n\n{examples}")(ready)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(importlib.metadata.version("recmeta"))
        raise typer.Exit


def _global(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Take the options that stand before a command."""
