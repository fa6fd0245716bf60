"""Turns a plain function into a command: groups become options, errors become exit codes."""

import dataclasses
import functools
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Collection, Mapping
from typing import Any

import typer

from recmeta import extras
from recmeta.cli import exits, output
from recmeta.cli.options import CommonOptions, Redo
from recmeta.cli.output import Outcome
from recmeta.cli.signals import listen_no_more
from recmeta.errors.secrets import masked

REDO = "redo"


@dataclasses.dataclass(frozen=True)
class Command:
    """A command as its file in `recmeta/cli/commands/` describes it; the file's name is its name.

    What the function says of itself is the help.
    """

    function: Callable[..., Outcome]
    """See `command`."""
    _: dataclasses.KW_ONLY
    examples: str
    """What the help shows at the end, a blank line between any two."""
    after: str | None = None
    """The command of the same group that it is listed after; None where it is the first."""
    needs: str | None = None
    """A step that must have finished in the workspace. Without it the command ends before it
    imports anything heavy."""
    steps: tuple[str, ...] = ()
    """The steps that it does, which `--redo` can name."""


def command(
    function: Callable[..., Outcome], needs: str | None = None, steps: tuple[str, ...] = ()
) -> Callable[..., None]:
    """Return `function` with every parameter that is a group spread into the group's fields.

    Args:
        function: keyword parameters as Typer knows them, and `common`: `CommonOptions`.
        needs, steps: see `Command`.
    """
    groups: dict[str, Any] = {
        name: p.annotation
        for name, p in inspect.signature(function).parameters.items()
        if dataclasses.is_dataclass(p.annotation)
    }

    @functools.wraps(function)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            fields = [f.name for f in dataclasses.fields(group)]
            given[name] = group(**{field: given.pop(field) for field in fields})
        common: CommonOptions = given["common"]
        redo = given.pop(REDO, None)

        def work() -> Outcome:
            if needs is not None:
                _require(needs, common.workspace)
            if not redo:
                return function(**given)
            from recmeta.manifest import redoing

            with redoing(redo, steps):
                return function(**given)

        typed = {name for name, value in given_options(given, groups).items() if value is not None}
        raise typer.Exit(_shown(_guarded(work, common, typed), common))

    parameters = _spread(function)
    if steps:
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(REDO, kind, default=None, annotation=Redo))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    del run.__wrapped__  # or Typer would look at the original's annotations
    return run


def _require(step: str, workspace: str) -> None:
    from recmeta.manifest import latest
    from recmeta.records.step_definition import as_stored
    from recmeta.workspace import Workspace

    latest(Workspace(workspace), as_stored(step))


def _spread(function: Callable[..., Outcome]) -> list[inspect.Parameter]:
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        if not dataclasses.is_dataclass(parameter.annotation):
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        parameters += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=field.type,
            )
            for field in dataclasses.fields(parameter.annotation)
        ]
    return parameters


def given_options(given: Mapping[str, Any], groups: Collection[str]) -> dict[str, Any]:
    """Return the values of all options of a command by name, those of its groups among them."""
    plain = {name: value for name, value in given.items() if name not in groups}
    return plain | {n: v for group in groups for n, v in vars(given[group]).items()}


def as_typed(message: str, options: Collection[str]) -> str:
    """Return a message in which options that were given are named as they are typed.

    Beneath the command line they are fields of configurations: `rules: diversity is 2` is to be
    `--diversity is 2`.
    """
    found = re.match(r"(?:[a-z_]+: )?([a-z_]+)((?:\.\w+)? is )", message)
    if found is None or found[1] not in options:
        return message
    return f"--{found[1].replace('_', '-')}{message[found.start(2) :]}"


def _guarded(
    work: Callable[[], Outcome], common: CommonOptions, options: Collection[str]
) -> Outcome:
    """Do the work; on an error say it in one paragraph and exit.

    Args:
        options: those that were given, by the names of their parameters.
    """
    try:
        with output.quiet_libraries(debug=common.debug):
            return work()
    except (SystemExit, GeneratorExit, typer.Exit):
        raise
    except BaseException as error:  # a panic in Rust is no Exception
        message, code = exits.of(extras.missing_extra(error) or error)
        if code == exits.USERS:
            message = as_typed(message, options)
        if common.debug:
            sys.stderr.write(masked("".join(traceback.format_exception(error))))
    raise typer.Exit(exits.end(message, code, json=common.as_json))


def _shown(outcome: Outcome, common: CommonOptions) -> int:
    """Print what a command found; return the exit code."""
    listen_no_more()
    try:
        output.show(outcome, as_json=common.as_json)
    except BrokenPipeError:
        exits.give_up_output()
        return exits.UNREAD
    except OSError as error:  # such as a full disk that it is written to
        message, code = exits.of(error)
        exits.give_up_output()
        return exits.end(message, code, json=False)
    return outcome.exit_code
