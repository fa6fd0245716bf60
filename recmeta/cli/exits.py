"""How a command ends: its exit code, and what is said where it fails.

0    done
1    a bug of ours: an error that nobody foresaw
2    the user's or the machine's: `UserError`, a bad option, a full disk, a server that is away
3    the gate refused the model
4    a rebuilt model is not the recorded one; features online are not those of the tables
130  interrupted (Ctrl-C)
141  nobody reads standard output any more
143  terminated (SIGTERM)
"""

import os
import sys
from json import dumps

from recmeta.cli.signals import Terminated, listen_no_more
from recmeta.errors import bounded
from recmeta.errors.causes import explained
from recmeta.errors.secrets import masked
from recmeta.markup import visible

DONE, OURS, USERS, REFUSED, DIFFERS = 0, 1, 2, 3, 4
INTERRUPTED, UNREAD, TERMINATED = 130, 141, 143


def of(error: BaseException) -> tuple[str, int]:
    """Return the paragraph for an error, and the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return interrupted(terminated=isinstance(error, Terminated))
    text = explained(error)
    return (text, USERS) if text is not None else (_ours(error), OURS)


def interrupted(*, terminated: bool) -> tuple[str, int]:
    """Return the paragraph for a command that somebody ended, and the exit code."""
    how, code = ("terminated", TERMINATED) if terminated else ("interrupted", INTERRUPTED)
    return f"{how}. The same command goes on from here.", code


def end(message: str, code: int, *, json: bool) -> int:
    """Say why a command ends, on standard error and, with `json`, on standard output; return the
    exit code."""
    listen_no_more()
    text = visible(masked(message))
    try:
        kind = "\x1b[1;31merror:\x1b[0m" if sys.stderr.isatty() else "error:"
        sys.stderr.write(f"{kind} {text}\n")
        sys.stderr.flush()
        if json:
            sys.stdout.write(as_json(text, code))
            sys.stdout.flush()
    except OSError:  # nobody reads it
        give_up_output()
    return code


def as_json(message: str, code: int) -> str:
    """Return the line that `--json` prints on standard output in the place of a result."""
    return dumps({"error": masked(message), "exit_code": code}, ensure_ascii=False) + "\n"


def give_up_output() -> None:
    """Let whatever is still printed go nowhere, so that nothing fails by it on the way out."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _ours(error: BaseException) -> str:
    said = bounded(str(error))
    return (
        f"this should not have happened: {type(error).__name__}: {said}. What was finished is "
        "kept. Please run the command again with --debug and report what it shows; `recmeta "
        "doctor` checks whether the installation is sound."
    )
