"""The errors whose message is written for the person at the keyboard.

The command line turns each into one paragraph and an exit code. What the machine or a server does
is described by `recmeta.errors.causes`; anything else is a bug of ours.
"""

import re
from collections.abc import Sequence

from recmeta.errors.secrets import masked

MOST_LISTED = 20
"""The number of names that a message lists."""
LONGEST_MESSAGE = 3_000
LONGEST_SHOWN = 80
"""Characters of one of them."""


class UserError(ValueError):
    """An error that the user can correct: the message says what is wrong, where, and what to do.

    Secrets in the message are masked, and one of more than `LONGEST_MESSAGE` characters, as a file
    with thousands of columns would make it, loses its middle. Exit code 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(masked(bounded(message)))


class WorkspaceBusyError(UserError):
    """Another command writes to the workspace, and did not end in time."""


class Broken(UserError):
    """Something that was written is not there any more, or is not what it was."""


class FieldError(UserError):
    """One field of a request does not fit; `field` is its place, such as `interactions[2].value`.

    The endpoint answers 422.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


def did_you_mean(word: str, known: "list[str] | tuple[str, ...]") -> str:
    """Return `` Did you mean 'x'?`` for the closest known word, or an empty string."""
    meant = closest(word, known, 0.5)
    return "" if meant is None else f" Did you mean {shown(meant)}?"


def closest(word: str, known: Sequence[str], likeness: float) -> str | None:
    """Return the known word that another one is most like; None where none is like it.

    Capitals, blanks and what joins words (`itemId`, `item-id`, `Item ID`) do not count.

    Args:
        likeness: from 0 to 1, how alike two words must be.
    """
    import difflib

    plain: dict[str, str] = {}
    for name in known:
        plain.setdefault(_plain(name), name)
    close = difflib.get_close_matches(_plain(word), list(plain), n=1, cutoff=likeness)
    return plain[close[0]] if close else None


def listed(names: Sequence[object], none: str = "none") -> str:
    """Return names for a message, at most twenty of them, each cut where it is long.

    Args:
        none: what stands for no name at all.
    """
    few = [_cut(str(name)) for name in names[:MOST_LISTED]]
    more = len(names) - len(few)
    return (", ".join(few) or none) + (f" and {more:,} more" if more else "")


def bounded(message: str) -> str:
    """Return a message that a person can read: how it begins, and how it ends."""
    if len(message) <= LONGEST_MESSAGE:
        return message
    half = LONGEST_MESSAGE // 2
    return f"{message[:half]} […] {message[-half:]}"


def shown(value: object) -> str:
    """Return a value as Python writes it, cut where it is long."""
    return repr(_cut(value)) if isinstance(value, str) else _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"


def _plain(word: str) -> str:
    return re.sub(r"[\W_]+", "", word).lower() or word
