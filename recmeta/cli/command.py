"""Turns a plain function into a command: groups become options, errors become exit codes.

0    done
1    our mistake: anything that nobody foresaw
2    the user's mistake: `UserError`, a bad option, a file or disk that refuses
3    the gate refused the model
4    a rebuilt model is not the recorded one; features online are not those of the tables
130  interrupted
"""

import dataclasses
import errno
import functools
import inspect
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any

import typer

from recmeta import extras
from recmeta.cli import output
from recmeta.cli.options import CommonOptions, Redo
from recmeta.cli.output import Outcome
from recmeta.errors import UserError

REDO = "redo"
OURS, USERS, REFUSED, DIFFERS, INTERRUPTED = 1, 2, 3, 4, 130
_ENVIRONMENT = {
    errno.EACCES: "allow it, or use another --workspace",
    errno.EPERM: "allow it, or use another --workspace",
    errno.EROFS: "use a --workspace on a disk that can be written to",
    errno.ENOSPC: "free some space, or use a --workspace on another disk",
    errno.EDQUOT: "free some space, or use a --workspace on another disk",
}
"""What the machine refuses, and what helps."""


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

        outcome = _guarded(work, common)
        output.show(outcome, as_json=common.as_json)
        raise typer.Exit(outcome.exit_code)

    parameters = _spread(function)
    if steps:
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(REDO, kind, default=None, annotation=Redo))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    del run.__wrapped__  # or Typer would look at the original's annotations
    return run


def _require(step: str, workspace: str) -> None:
    from recmeta.manifest import as_stored, latest
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


def _guarded(work: Callable[[], Outcome], common: CommonOptions) -> Outcome:
    """Do the work; on an error say it in one paragraph and exit."""
    try:
        with output.quiet_libraries(debug=common.debug):
            return work()
    except (Exception, KeyboardInterrupt) as error:
        message, code = _explained(error)
        if common.debug:
            traceback.print_exception(error, file=sys.stderr)
    output.tell(message, kind="error")
    if common.as_json:
        sys.stdout.write(output.to_json({"error": message, "exit_code": code}) + "\n")
        sys.stdout.flush()
    raise typer.Exit(code)


def _explained(error: BaseException) -> tuple[str, int]:
    """Return the paragraph for an error, and the exit code."""
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "interrupted. The same command goes on from here.", INTERRUPTED
    error = extras.missing_extra(error) or error
    if isinstance(error, UserError):
        return str(error), USERS
    return _refused(error) or _out_of_reach(error) or (_ours(error), OURS)


def _refused(error: BaseException) -> tuple[str, int] | None:
    """Return what to say where the machine does not let us."""
    if not isinstance(error, OSError) or error.errno not in _ENVIRONMENT:
        return None
    remedy = _ENVIRONMENT[error.errno]
    place = f" {error.filename!r}" if error.filename else ""
    return f"cannot use{place}: {error.strerror or error}; {remedy}.", USERS


def _out_of_reach(error: BaseException) -> tuple[str, int] | None:
    """Return what to say where a server did not answer; libraries wrap that in their errors."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionError | TimeoutError | socket.gaierror):
            return (
                f"a server cannot be reached: {cause}. Start it, or look at MLFLOW_TRACKING_URI "
                "and the address of the workspace; `recmeta doctor` tells which one it is."
            ), USERS
        cause = cause.__cause__ or cause.__context__
    return None


def _ours(error: BaseException) -> str:
    return (
        f"this should not have happened: {type(error).__name__}: {error}. What was finished is "
        "kept. Please run the command again with --debug and report what it shows; `recmeta "
        "doctor` tells whether the installation is sound."
    )
