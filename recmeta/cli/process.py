"""The process in which a command works, and the one that watches it.

Where memory runs out, nothing in a process can say so any more: libraries written in Rust abort it,
and Linux kills it. So the command works in a child of the process that was started. The parent has
loaded nothing; it passes signals on and waits. Where the child ends without an answer, the parent
says why in its place; a child that does not heed a signal within `GRACE_SECONDS` it kills, which
harms nothing. Should the parent be killed, the child is, too.

What libraries write to the file descriptors of standard output and standard error, past Python,
such as the dump of a panic in Rust, is kept aside, and shown at the end with `--debug` and with a
mistake of ours.

That is so on Linux. Elsewhere, and for `serve`, which a service manager watches, the command works
in the process that was started.
"""

import contextlib
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TextIO

from recmeta.children import die_with
from recmeta.cli.signals import SIGNALS, listen

GRACE_SECONDS = 10
"""How long a command may take to end after Ctrl-C or SIGTERM."""
MOST_SHOWN = 8_000
"""Bytes of what libraries wrote past Python."""


def run(work: Callable[[], int], arguments: list[str]) -> int:
    """Do the work of a command and return its exit code.

    Args:
        work: called in the child; says itself what there is to say.
        arguments: of the command line.
    """
    if sys.platform != "linux" or next((a for a in arguments if a[0:1] != "-"), "") == "serve":
        listen()
        return work()
    answered = mmap.mmap(-1, 1)  # shared with the child: its exit code and one, once it has said it
    aside = os.memfd_create("recmeta")
    parent = os.getpid()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*SIGNALS, signal.SIGCHLD})
    try:
        child = os.fork()
    except OSError:  # no process is to be had: then without one
        child = 0
        answered, aside = mmap.mmap(-1, 1), -1
    if child:
        return _watch(child, answered, aside, arguments)
    if aside >= 0:
        die_with(parent)
        _keep_aside(aside)
    listen()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    code = work()
    answered[0] = code + 1
    return code


def _keep_aside(aside: int) -> None:
    """Give Python's streams file descriptors of their own, and let the usual ones lead aside."""
    out, err = _moved(sys.stdout), _moved(sys.stderr)
    vars(sys).update(stdout=out, __stdout__=out, stderr=err, __stderr__=err)
    os.dup2(aside, 1)
    os.dup2(aside, 2)


def _moved(stream: TextIO | None) -> TextIO:
    if stream is None:  # it was closed by whoever started us
        return open(os.devnull, "w")
    stream.flush()
    number = os.dup(stream.fileno())
    buffering = 1 if stream.isatty() or stream is sys.stderr else -1
    return open(number, "w", buffering, stream.encoding, stream.errors)


def _watch(child: int, answered: mmap.mmap, aside: int, arguments: list[str]) -> int:
    """Wait for the child, and say what it could not; return the exit code."""
    received, deadline = 0, float("inf")
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            break
        left = max(0.0, min(deadline - time.monotonic(), 60.0))
        got = signal.sigtimedwait({*SIGNALS, signal.SIGCHLD}, left)
        if got is not None and got.si_signo in SIGNALS:
            again, received = bool(received), received or got.si_signo
            deadline = time.monotonic() + (0 if again else GRACE_SECONDS)
            os.kill(child, got.si_signo)
        if time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
    libraries = os.pread(aside, MOST_SHOWN, max(0, os.fstat(aside).st_size - MOST_SHOWN))
    said = libraries.decode(errors="replace")
    code = answered[0] - 1 if answered[0] else _answer(status, received, said, arguments)
    if said.strip() and (code == 1 or "--debug" in arguments):
        from recmeta.errors.secrets import masked

        _write(sys.stderr, masked(said))
    return code


def _answer(status: int, received: int, said: str, arguments: list[str]) -> int:
    """Say why the child ended without an answer; return the exit code."""
    from recmeta.cli import exits

    message, code = _why(status, received, said)
    _write(sys.stderr, f"error: {message}\n")
    if "--json" in arguments:
        _write(sys.stdout, exits.as_json(message, code))
    return code


def _why(status: int, received: int, said: str) -> tuple[str, int]:
    from recmeta.cli import exits
    from recmeta.errors.causes import explained

    if received:
        return exits.interrupted(terminated=received == signal.SIGTERM)
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number == signal.SIGKILL:
        return exits.of(MemoryError("Linux killed the command, as it does when memory runs out"))
    named = f"it ended by {signal.Signals(number).name}" if number else "it ended without a message"
    lines = [line for line in said.splitlines() if explained(RuntimeError(line)) is not None]
    return exits.of(RuntimeError(lines[-1] if lines else named))


def _write(stream: TextIO | None, text: str) -> None:
    """Write where somebody reads it."""
    with contextlib.suppress(OSError, ValueError):
        if stream is not None:
            stream.write(text)
            stream.flush()
