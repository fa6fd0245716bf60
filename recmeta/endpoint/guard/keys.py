"""API keys, which say who may send requests.

A line per key, `NAME:KEY` or `KEY`, from the environment variable `RECMETA_API_KEYS` (commas
separate them there, too) or from a file. A line that begins with # is a comment. Names appear in
logs and limits; keys appear nowhere.
"""

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from pathlib import Path

from recmeta.errors import UserError
from recmeta.handwritten import lines, read_text
from recmeta.workspace.privacy import readable_by_others

VARIABLE = "RECMETA_API_KEYS"
SHORTEST = 16
"""The fewest characters of a key: shorter keys can be guessed."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ApiKeys:
    """The keys that open the endpoint. Only their digests are kept."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        """
        Args:
            keys: key by name.

        Raises:
            UserError: for none, or one that is too short.
        """
        if not keys:
            raise UserError("there is no API key: give at least one.")
        for name, key in keys.items():
            if len(key) < SHORTEST:
                raise UserError(
                    f"the API key {name!r} has {len(key)} characters; use at least {SHORTEST}, "
                    'such as those of `python -c "import secrets; print(secrets.token_urlsafe())"`.'
                )
        self._digests = {name: _digest(key) for name, key in keys.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the keys."""
        return tuple(self._digests)

    def name_of(self, key: str | None) -> str | None:
        """Return whose key it is; None for a wrong one. Every key takes the same time."""
        presented = _digest(key or "")
        found = None
        for name, digest in self._digests.items():
            if hmac.compare_digest(presented, digest):
                found = name
        return found


def presented(authorization: str) -> str | None:
    """Return the key that a request presents in the value of its header `Authorization`."""
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def read_keys(file: Path | None) -> ApiKeys | None:
    """Return the keys of a file, else those of the environment, else None.

    Raises:
        UserError: for a file that cannot be read, two keys of one name, or a bad key.
    """
    text = os.environ.get(VARIABLE, "")
    where = f"the environment variable {VARIABLE}"
    if file is not None:
        where = str(file)
        text = read_text(file, "file of API keys")
    elif not text.strip():
        return None
    keys: dict[str, str] = {}
    # Comments go first: what follows a comma in one must not become a key.
    kept = ["" if line.startswith("#") else line for line in lines(text)]
    for number, entry in enumerate(re.split(r"[,\n]", "\n".join(kept)), start=1):
        name, colon, key = (part.strip() for part in entry.partition(":"))
        if not colon:
            name, key = "", name
        if not name and not key:
            continue
        name = name or f"key-{number}"
        if name in keys:
            raise UserError(f"{where} has two API keys named {name!r}: give each its own name.")
        keys[name] = key
    return ApiKeys(keys)


def exposure(file: Path | None) -> str | None:
    """Return a sentence about a file of keys that every account of the machine can read."""
    if file is None or not readable_by_others(file):
        return None
    return (
        f"every account of this machine can read the API keys in {file}: close it with `chmod 600 "
        f"{file}`."
    )


def guard(keys: ApiKeys | None, *, no_auth: bool, host: str) -> ApiKeys | None:
    """Return the keys to ask for; None if everybody on this machine may send requests.

    Raises:
        UserError: without keys, unless that was asked for and only this machine can connect.
    """
    if not no_auth:
        if keys is None:
            raise UserError(
                f"there are no API keys: put some into {VARIABLE}, or into a file for --api-keys. "
                "To try it on this machine only, add --no-auth."
            )
        return keys
    if host not in LOOPBACK:
        raise UserError(
            f"--no-auth lets in whoever can connect, and --host {host} can be reached from "
            "elsewhere: leave one of the two out."
        )
    return None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
