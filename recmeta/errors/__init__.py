"""The errors whose message is written for the person at the keyboard.

The command line turns each into one paragraph and an exit code. What the machine or a server does
is told by `recmeta.errors.causes`; anything else is a bug of ours.
"""

from recmeta.errors.secrets import masked


class UserError(ValueError):
    """Something the user can mend: the message says what is wrong, where, and what to do.

    Secrets in the message are masked. Exit code 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(masked(message))


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
    """Return `` Did you mean 'x'?`` for the closest known word, or an empty string.

    Case, spaces and signs between words do not count: UserId is user_id.
    """
    import difflib

    by_letters = {_letters(name): name for name in reversed(known)}
    close = difflib.get_close_matches(_letters(word), list(by_letters), n=1, cutoff=0.5)
    return f" Did you mean {by_letters[close[0]]!r}?" if close else ""


def _letters(word: str) -> str:
    return "".join(filter(str.isalnum, word)).lower() or word
