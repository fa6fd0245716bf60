"""Rows stored on a local disk, so that memory holds only some users' rows at a time."""

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


class RowFiles:
    """A folder of named arrays, which is deleted with this object.

    It is created where temporary files are; TMPDIR names another disk. A process that is killed
    leaves it behind, and no other process reads it.
    """

    def __init__(self) -> None:
        folder = tempfile.mkdtemp(prefix="recmeta-rows-")
        self._folder = Path(folder)
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    def append(self, name: str, rows: npt.NDArray[Any]) -> None:
        """Put rows at the end of an array.

        Raises:
            OSError: if the disk is full.
        """
        with (self._folder / name).open("ab") as file:
            # Not `tofile`, which writes through a C buffer and does not notice when flushing it
            # fails: rows would be lost silently.
            file.write(np.ascontiguousarray(rows).view(np.uint8).data)

    def read(
        self, name: str, dtype: npt.DTypeLike, start: int = 0, stop: int | None = None
    ) -> npt.NDArray[Any]:
        """Return an array, or its rows from `start` to `stop`. It is empty if nothing was
        appended."""
        path, size = self._folder / name, np.dtype(dtype).itemsize
        if not path.exists():
            return np.zeros(0, dtype)
        count = -1 if stop is None else stop - start
        return np.fromfile(path, dtype, count=count, offset=start * size)

    def remove(self, name: str) -> None:
        """Delete an array, if it exists."""
        (self._folder / name).unlink(missing_ok=True)
