"""The application: the commands of `recmeta/cli/commands/`, in the order of the flow."""

import importlib
import importlib.metadata
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from recmeta.cli import exits
from recmeta.cli.command import Command, command
from recmeta.plugins import Registry

HELP = "Recommendations for users who are new, by meta-learning: from logs to ranked lists."
PACKAGE = "recmeta.cli.commands"
COMMANDS: Registry[Command] = Registry("command", package=PACKAGE, attribute="COMMAND")
"""Commands by name. A file in a folder is a command of a group, which the folder names and its
docstring explains."""


_USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
"""Click's UsageError, which Typer brings along under no public name."""


class Application(TyperGroup):
    """The commands as one; with `--json`, an option that does not fit is an object, too."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **others: Any) -> Any:
        """Run the command line and exit."""
        given = sys.argv[1:] if args is None else list(args)
        if "--json" not in given:
            return super().main(given, *rest, **others)
        try:
            code = super().main(given, *rest, **(others | {"standalone_mode": False}))
        except _USAGE_ERROR as error:
            message = f"{error.format_message()} `--help` shows what there is."
            sys.exit(exits.end(message, exits.USERS, json=True))
        except typer.Abort:
            message, code = exits.interrupted(terminated=False)
            exits.end(message, code, json=True)
        sys.exit(code or 0)


def build() -> typer.Typer:
    """Return the application. Commands import what they need when they are called."""
    app = typer.Typer(
        cls=Application,
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
