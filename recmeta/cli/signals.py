"""Ctrl-C and SIGTERM, raised where the command is."""

import signal
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """Somebody ended the command, by SIGTERM."""


def listen() -> None:
    """Have Ctrl-C and SIGTERM raised, once, as KeyboardInterrupt and `Terminated`."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)


def listen_no_more() -> None:
    """Ignore Ctrl-C and SIGTERM from now on, so that the last message is printed in full."""
    for number in SIGNALS:
        if signal.getsignal(number) is _end:
            signal.signal(number, signal.SIG_IGN)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    listen_no_more()
    if number == signal.SIGTERM:
        raise Terminated
    raise KeyboardInterrupt
