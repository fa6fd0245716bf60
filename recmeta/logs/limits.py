"""How large a file may become when it is downloaded or unpacked.

A few kilobytes can unpack to the size of a disk. Logs pack to a tenth to a fiftieth of their size,
so that a file that grows by more than `MAX_RATIO` is refused, before and while it is read.
"""

import os
from typing import Any, Self

from recmeta.errors import UserError

RATIO = "RECMETA_MAX_UNPACKED_RATIO"
MAX_RATIO = 200.0
"""The most bytes for each packed byte, unless the environment variable RATIO gives another
number."""
ALWAYS_ALLOWED = 64 * 1024**2
"""The size up to which any packed file may unpack."""
DOWNLOAD = "RECMETA_MAX_DOWNLOAD_GB"
MAX_DOWNLOAD_GB = 50.0
"""The most gigabytes of a download, unless the environment variable DOWNLOAD gives another
number."""


def check_download(url: str, num_bytes: int) -> None:
    """Raise UserError if a download is, or has become, larger than allowed."""
    allowed = _number(DOWNLOAD, MAX_DOWNLOAD_GB)
    if num_bytes > allowed * 1e9:
        raise UserError(
            f"{url} has {num_bytes / 1e9:.1f} GB or more, and downloads are limited to "
            f"{allowed:g} GB: to allow it, set {DOWNLOAD} to a larger number."
        )


def check_unpacked(name: str, packed: int, unpacked: int) -> None:
    """Raise UserError if a file becomes, or has become, larger than allowed.

    Args:
        packed: its bytes as it is stored.
    """
    ratio = _number(RATIO, MAX_RATIO)
    if unpacked > max(ALWAYS_ALLOWED, ratio * packed):
        raise UserError(
            f"{name!r} has {packed:,} bytes and unpacks to {unpacked:,} or more, which is over "
            f"{ratio:g} times as many: it may have been made to fill memory or a disk. If you "
            f"trust the file, set {RATIO} to a larger number."
        )


class Bounded:
    """A stream that is being unpacked, up to the allowed size."""

    def __init__(self, stream: Any, name: str, packed: int) -> None:
        """
        Args:
            packed: bytes of the file as it is stored.
        """
        self._stream = stream
        self._name = name
        self._packed = packed
        self._read = 0
        self._ahead = b""

    def read(self, size: int) -> bytes:
        """Return the next bytes; none at the end. Raises UserError if there are too many."""
        if self._ahead:
            ahead, self._ahead = self._ahead[:size], self._ahead[size:]
            return ahead
        content: bytes = self._stream.read(size)
        self._read += len(content)
        check_unpacked(self._name, self._packed, self._read)
        return content

    def peek(self, size: int) -> bytes:
        """Return the next bytes without consuming them; fewer at the end."""
        while len(self._ahead) < size:
            more = self._stream.read(size - len(self._ahead))
            if not more:
                break
            self._read += len(more)
            self._ahead += more
        return self._ahead[:size]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def _number(variable: str, default: float) -> float:
    text = os.environ.get(variable) or str(default)
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not number > 0:
        raise UserError(f"{variable} is {text!r}; it must be a number above 0.")
    return number
