"""Passwords, keys and tokens, masked in text that leaves the program.

Addresses come from the user, and libraries repeat them in their messages: one function masks what
is secret in them, wherever the text comes from. What is masked:

- whatever stands before the `@` of an address: `postgresql://***@host/features`
- secret parameters of an address: `https://host/log.csv?X-Amz-Signature=***&part=1`
- settings of that kind: `AWS_SECRET_ACCESS_KEY=***`, `'password': '***'`, `Authorization: ***`
- the values of the environment's variables of that kind, wherever they stand
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MASK = "***"
MIN_LENGTH = 6
"""Characters of a variable's value that is looked for in any text; shorter ones are words."""

_NAME = (
    r"(?:x-(?:amz|goog)-(?:signature|credential|security-token)|awsaccesskeyid|signature|sig|"
    r"(?:aws[-_])?(?:secret[-_])?access[-_]key(?:[-_]id)?|(?:client[-_])?secret(?:[-_]key)?|"
    r"(?:access|session|security|sas|auth|id|refresh|aws[-_]session)[-_]?token|token|"
    r"api[-_]?keys?|passw(?:or)?d|pwd|credentials?)"
)
_VALUE = r"[^&\s\"'<>#]*[^&\s\"'<>#.,;:)\]}]"
_AUTHORITY = re.compile(
    r"(?P<before>(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]*://)(?P<secret>[^\s/?#\"<>]+)(?=@)"
)
# SQLAlchemy takes a password with a slash in it as it is; a port comes before a path, too.
_ODD_PASSWORD = re.compile(
    r"(?P<before>(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]*://)"
    r"(?P<secret>[^\s:/?#@\"<>]*:(?!\d+[/?#])[^\s@\"<>]*)(?=@)"
)
_PARAMETER = re.compile(rf"(?P<before>[?&;]{_NAME}=)(?P<secret>{_VALUE})", re.IGNORECASE)
_SETTING = re.compile(
    r"(?P<before>\b(?:[A-Z0-9_]*(?:SECRET|PASSWORD|TOKEN|ACCESS_KEY|API_KEY)[A-Z0-9_]*|"
    r"aws_secret_access_key|secret_access_key|aws_session_token|secret_key|password)"
    r"[\"']?\s?[:=]\s?[\"']?)(?P<secret>[^,\s\"'<>&]*[^,\s\"'<>&.;:)\]}])"
)
_HEADER = re.compile(
    r"(?P<before>\bauthorization[\"']?\s?[:=]\s?[\"']?)(?P<secret>(?:(?:bearer|basic)\s+)?[^\s\"',]+)",
    re.IGNORECASE,
)
_PATTERNS = (_AUTHORITY, _ODD_PASSWORD, _PARAMETER, _SETTING, _HEADER)
_VARIABLE = re.compile(r"(?:SECRET|SECRET_KEY|PASSWORD|PASSWD|TOKEN|ACCESS_KEY|API_KEYS?)$")


def masked(text: str, known: Sequence[str] | None = None) -> str:
    """Return a text with `***` in the place of every secret; the rest is as it was.

    Args:
        known: of `secrets_of_environment`, for a process that masks often and whose environment
            does not change: reading it takes a hundred times as long as the rest. None reads it.
    """
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\g<before>{MASK}", text)
    for value in secrets_of_environment() if known is None else known:
        text = text.replace(value, MASK)
    return text


def masked_values(value: Any, known: Sequence[str] | None = None) -> Any:
    """Return JSON-ready data with every text in it masked; names of values are left alone.

    Args:
        known: as for `masked`.
    """
    known = secrets_of_environment() if known is None else known
    if isinstance(value, str):
        return masked(value, known)
    if isinstance(value, Mapping):
        return {name: masked_values(inner, known) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked_values(inner, known) for inner in value]
    return value


def secrets_in(text: str) -> Iterator[str]:
    """Yield the secrets of a text, for callers that mask them on their own."""
    for pattern in _PATTERNS:
        for found in pattern.finditer(text):
            user, _, password = found["secret"].partition(":")
            yield from filter(None, (found["secret"], password or user))


class MaskingFilter(logging.Filter):
    """Masks the records of a handler, with the tracebacks in them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask the record, and let it pass."""
        record.msg, record.args = masked(record.getMessage()), ()
        if record.exc_info:
            record.exc_text = masked(logging.Formatter().formatException(record.exc_info))
        return True


def secrets_of_environment() -> tuple[str, ...]:
    """Return the values of variables whose names say that they are secret, the longest first."""
    found = set[str]()
    for name, value in os.environ.items():
        if _VARIABLE.search(name):  # RECMETA_API_KEYS has several, as NAME:KEY
            found.update(re.split(r"[\s,]+", value))
            found.update(part.rpartition(":")[2] for part in re.split(r"[\s,]+", value))
    return tuple(sorted((v for v in found if len(v) >= MIN_LENGTH), key=len, reverse=True))
