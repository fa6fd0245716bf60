"""What the machine, a server or another program does to a command, as opposed to bugs.

Libraries wrap such errors in their own, or leave nothing of them but a text, so that a cause is
looked for in the whole chain of an error. The table `CAUSES` is all that is recognised, the most
particular first; anything else is a bug and stays one.
"""

import contextlib
import dataclasses
import errno
import re
import socket
from collections.abc import Iterator

from recmeta.errors import UserError
from recmeta.errors.secrets import masked

MAX_QUOTED = 300
"""Characters of a library's own words."""
_MOST_LINKS = 30
_NOISE = re.compile(
    r"\x1b\[[0-9;]*m|↳|\(Background on this error at: \S+\)|\[SQL: .*|\bDebug source: .*", re.DOTALL
)
"""Colours, and what libraries add for those who write them."""
_MISTAKES = (
    AssertionError,
    AttributeError,
    ArithmeticError,
    LookupError,
    NameError,
    NotImplementedError,
    RecursionError,
    SyntaxError,
    TypeError,
)
"""Errors of a program. One that happens while another is dealt with is none of the other's."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cause:
    """One error whose cause is the user, the machine or a server."""

    name: str
    says: str
    """What is wrong, and what to do; `{words}` are the library's, `{place}` a path where one is
    known, after a blank."""
    numbers: frozenset[int] = frozenset()
    """Of the operating system (`errno`)."""
    kinds: tuple[type[BaseException], ...] = ()
    classes: frozenset[str] = frozenset()
    """Names of libraries' classes, which are not imported for this."""
    text: str = r"(?!)"
    """A pattern of what libraries say, in lower case and with single blanks."""

    def is_of(self, error: BaseException, words: str) -> bool:
        """Return whether an error is this, by itself."""
        if isinstance(error, OSError) and error.errno in self.numbers:
            return True
        if isinstance(error, self.kinds) or type(error).__name__ in self.classes:
            return True
        numbers = "|".join(map(str, sorted(self.numbers)))
        by_number = numbers and re.search(rf"\(?(?:os error|errno|code:) ({numbers})\b", words)
        return bool(by_number or re.search(self.text, words))


def _numbers(*names: str) -> frozenset[int]:
    return frozenset(getattr(errno, name) for name in names if hasattr(errno, name))


_AGAIN = "What was finished is kept: the same command goes on from there."
CAUSES = (
    Cause(
        name="disk full",
        numbers=_numbers("ENOSPC", "EDQUOT"),
        text=r"no space left on device|(?:database or )?disk is full|disk quota exceeded",
        says="the disk is full{place} ({words}): free some space, or use a --workspace on another "
        f"disk; TMPDIR says where temporary files go. {_AGAIN}",
    ),
    Cause(
        name="file too large",
        numbers=_numbers("EFBIG"),
        text=r"\bfile too large\b",
        says="a file may not become as large as it must{place} ({words}): raise the limit "
        f"(`ulimit -f unlimited`), or use a --workspace on another file system. {_AGAIN}",
    ),
    Cause(
        name="too many open files",
        numbers=_numbers("EMFILE", "ENFILE"),
        text=r"too many open files",
        says="too many files are open at once{place} ({words}): raise the limit, with "
        f"`ulimit -n 4096` or LimitNOFILE= in a service. {_AGAIN}",
    ),
    Cause(
        name="out of GPU memory",
        text=r"(?:cuda|hip|mps)\b.{0,20}\bout of memory|cublas_status_alloc_failed",
        says="the GPU's memory is full ({words}): end what else uses it, train with a smaller "
        f"batch_size, or give --device cpu. {_AGAIN}",
    ),
    Cause(
        name="out of memory",
        kinds=(MemoryError,),
        numbers=_numbers("ENOMEM"),
        text=r"\bout of memory\b|not enough memory|cannot allocate memory(?! in static tls)|"
        r"unable to allocate \S+ \w+ for an array|malloc of size \d+ failed|"
        r"memory allocation of \d+ bytes failed|std::bad_alloc|capacity overflow|"
        r"failed to map segment from shared object",
        says="the memory is not enough ({words}): end other programs, raise the limit that the "
        "shell or the container sets, or use a machine with more; a log can be ingested in parts. "
        f"{_AGAIN}",
    ),
    Cause(
        name="too many processes",
        numbers=_numbers("EAGAIN"),
        text=r"can't start new thread|resource temporarily unavailable",
        says="the machine starts no further thread or process ({words}): end other programs, or "
        f"raise the limit (`ulimit -u`, TasksMax= in a service). {_AGAIN}",
    ),
    Cause(
        name="locked database",
        text=r"database (?:table )?is locked|database schema is locked|deadlock detected|"
        r"could not obtain lock on|lock wait timeout exceeded",
        says="a database is locked by another program ({words}): wait for that to end, or end it; "
        "many writers at once need an MLflow server or PostgreSQL, with MLFLOW_TRACKING_URI. "
        f"{_AGAIN}",
    ),
    Cause(
        name="lost commit race",
        classes=frozenset({"CommitFailedError"}),
        text=r"metadata changed since last commit|a concurrent (?:transaction|writer)|"
        r"transaction failed: version \d+ already exists|concurrent(?:append|delete|transaction)",
        says="another program wrote to the same table at the same time, and was faster ({words}): "
        f"let that end, and run the command again. {_AGAIN}",
    ),
    Cause(
        name="missing bucket",
        classes=frozenset({"NoSuchBucket"}),
        text=r"no_?such_?bucket|bucket '[^']*' (?:does not exist|not found)|"
        r"specified bucket does not exist|bucket does not exist",
        says="the object store has no such bucket ({words}): make it, or correct the address in "
        "--workspace or AWS_ENDPOINT_URL.",
    ),
    Cause(
        name="credentials refused",
        classes=frozenset({"NoCredentialsError", "AuthenticationError"}),
        text=r"invalid_?access_?key_?id|signature_?does_?not_?match|access[_ ]?denied\b|"
        r"expired_?token|no (?:aws )?credentials|unable to locate credentials|"
        r"\b(?:401 unauthorized|403 forbidden)|http error 40[13]\b|error code 40[13]\b|"
        r"status:? (?:code )?40[13]\b|invalid credentials|password authentication failed|"
        r"no password supplied|no_?auth authentication required|wrongpass|"
        r"missing or invalid credentials|instance metadata|no providers in chain",
        says="a server refuses the credentials ({words}): look at AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY for an object store, MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD for MLflow, or the address that has them.",
    ),
    Cause(
        name="server fails",
        text=r"\b50\d (?:internal server error|bad gateway|service unavailable|gateway time-?out)|"
        r"too many 50\d error responses|http status(?: code)? 50\d|http error 50\d|"
        r"error code 50\d\b|status:? (?:code )?50\d\b|\(50\d\) when calling|"
        r"server returned non-2xx status code: 50\d",
        says="a server answers that it has failed ({words}): look at its log, and try again when "
        f"it has recovered; `recmeta doctor` says which one it is. {_AGAIN}",
    ),
    Cause(
        name="server out of reach",
        kinds=(ConnectionError, TimeoutError, socket.gaierror),
        classes=frozenset(
            {
                "ConnectTimeout",
                "ConnectTimeoutError",
                "ConnectionClosedError",
                "EndpointConnectionError",
                "MaxRetryError",
                "NameResolutionError",
                "NewConnectionError",
                "ProtocolError",
                "ReadTimeout",
                "ReadTimeoutError",
                "RemoteDisconnected",
            }
        ),
        numbers=_numbers("ENETUNREACH", "EHOSTUNREACH", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT"),
        text=r"connection (?:refused|reset|aborted|timed out)|max retries exceeded with url|"
        r"network_connection|error sending request|operation timed out|timeout was reached|"
        r"name or service not known|failed to lookup address|dns error|could not resolve host|"
        r"network is unreachable|no route to host|connection to server .{0,80} failed|"
        r"server closed the connection unexpectedly|could not connect to server|"
        r"error 111 connecting to",
        says="a server cannot be reached ({words}). Start it, or look at MLFLOW_TRACKING_URI and "
        f"the address of the workspace; `recmeta doctor` says which one it is. {_AGAIN}",
    ),
    Cause(
        name="not allowed",
        numbers=_numbers("EACCES", "EPERM"),
        text=r"attempt to write a readonly database|\bpermission denied\b",
        says="access is refused{place} ({words}): allow it, or use another --workspace.",
    ),
    Cause(
        name="read-only",
        numbers=_numbers("EROFS"),
        text=r"read-only file system",
        says="cannot write{place} ({words}): use a --workspace on a disk that can be written to.",
    ),
    Cause(
        name="disk fails",
        numbers=_numbers("EIO", "ESTALE"),
        text=r"disk i/o error|\binput/output error\b|stale file handle",
        says="the disk gives an error{place} ({words}): look at the machine's log, and use a "
        f"--workspace on a disk that works. {_AGAIN}",
    ),
    Cause(
        name="no path",
        numbers=_numbers("ENAMETOOLONG", "ELOOP"),
        text=r"file name too long|embedded (?:nul|null) (?:char|byte|character)",
        says="this machine cannot have such a path ({words}): correct it.",
    ),
    Cause(
        name="database cannot be opened",
        text=r"unable to open database file",
        says="a database cannot be opened ({words}): look whether its folder is there and may be "
        "written to, whether the disk has space, and whether more files may be open (`ulimit -n`).",
    ),
)
"""Everything that is recognised."""


def cause_of(error: BaseException) -> Cause | None:
    """Return what an error comes from; None where that is not recognised: a bug, then."""
    found = _found(error)
    return None if found is None else found[0]


def explained(error: BaseException) -> str | None:
    """Return a paragraph that says what is wrong and what to do, without secrets.

    That is the message of a `UserError`. None where the cause is not recognised: a bug, then.
    """
    if isinstance(error, UserError):
        return masked(str(error))
    found = _found(error)
    if found is None:
        return None
    cause, link = found
    place = _place(link)
    text = cause.says.format(words=_words(link), place=f" at {place!r}" if place else "")
    return masked(text)


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Within the block, add to an error what explains it, as a note, which tracebacks show."""
    try:
        yield
    except BaseException as error:
        note = explained(error)
        if note is not None and note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        raise


def _found(error: BaseException) -> tuple[Cause, BaseException] | None:
    """Return the first cause that an error of the chain has, the outermost error first."""
    links = list(_chain(error))
    for cause in CAUSES:
        for link in links:
            if cause.is_of(link, _plain(link).lower()):
                return cause, link
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from; libraries keep that in several places."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _MOST_LINKS:
        link = waiting.pop(0)
        if id(link) in seen or isinstance(link, KeyboardInterrupt | SystemExit):
            continue
        seen.add(id(link))
        is_mistake = isinstance(link, _MISTAKES)
        if not is_mistake:
            yield link
        if isinstance(link, BaseExceptionGroup):
            waiting += link.exceptions
        inner = [link.__cause__, getattr(link, "orig", None), getattr(link, "reason", None)]
        if not is_mistake and type(link) is not ValueError:
            inner += [*link.args, None if link.__suppress_context__ else link.__context__]
        waiting += [one for one in inner if isinstance(one, BaseException)]


def _plain(error: BaseException) -> str:
    """Return what an error says, in one line and without colours."""
    try:
        text = str(error)
    except Exception:  # of a library's error that cannot even be shown
        text = ""
    return " ".join(_NOISE.sub(" ", text).split())


def _words(error: BaseException) -> str:
    said = _plain(error)
    if isinstance(error, OSError) and error.strerror:
        said = error.strerror
    said = said.rstrip(".") or type(error).__name__
    return said if len(said) <= MAX_QUOTED else f"{said[: MAX_QUOTED - 1]}…"


def _place(error: BaseException) -> str | None:
    """Return the path that an error of the operating system is about: that which is written."""
    if not isinstance(error, OSError):
        return None
    place = error.filename2 or error.filename
    return None if place is None or isinstance(place, int) else str(place)
