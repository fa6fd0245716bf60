"""A picture that a notebook shows and a script can save."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from recmeta import extras


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG."""

    png: bytes

    @classmethod
    def drawn(cls, draw: Callable[[], bytes]) -> "Picture":
        """Return what a function of `recmeta.reporting` draws.

        Raises:
            UserError: where Matplotlib is not installed.
        """
        with extras.explained():
            return cls(draw())

    def _repr_png_(self) -> bytes:
        """Return what Jupyter shows."""
        return self.png

    def __repr__(self) -> str:
        return f"Picture({len(self.png) // 1024} KiB, PNG)"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it into a file."""
        Path(path).write_bytes(self.png)
