"""Rows put aside on a local disk, so that memory holds only some users' rows at a time."""

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


class RowFiles:
    """A folder of arrays under names, which goes when this object goes.

    It lies where temporary files lie; TMPDIR names another disk. A process that is killed leaves
    it behind, and no other one reads it.
    """

    def __init__(self) -> None:
        folder = tempfile.mkdtemp(prefix="recmeta-rows-")
        self._folder = Path(folder)
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    def append(self, name: str, rows: npt.NDArray[Any]) -> None:
        """Put rows at the end of an array.

        Raises:
            OSError: where the disk is full.
        """
        with (self._folder / name).open("ab") as file:
            # Not `tofile`, which writes through a buffer of C and does not see that it was not
            # emptied: rows would be gone without a word.
            file.write(np.ascontiguousarray(rows).view(np.uint8).data)

    def read(
        self, name: str, dtype: npt.DTypeLike, start: int = 0, stop: int | None = None
    ) -> npt.NDArray[Any]:
        """Return an array, or its rows from `start` to `stop`; none where nothing was put."""
        path, size = self._folder / name, np.dtype(dtype).itemsize
        if not path.exists():
            return np.zeros(0, dtype)
        count = -1 if stop is None else stop - start
        return np.fromfile(path, dtype, count=count, offset=start * size)

    def remove(self, name: str) -> None:
        """Drop an array; nothing happens where there is none."""
        (self._folder / name).unlink(missing_ok=True)
