"""What task building goes on from when more rows come, beside users' rows and the tallies.

    log.json       the files that the log's rows were in, and the kinds of event
    levels.arrow   one row per distinct value: how many rows of training tasks have it

Legend: V distinct values.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from recmeta import schema
from recmeta.config import parse, to_dict
from recmeta.tasks.arrays import Float32Array, IntArray
from recmeta.tasks.item_files import mapped, write_table
from recmeta.workspace import Folder

FILE = "log.json"
_LEVELS = "levels.arrow"
_NUM_ROWS = "num_rows"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildState:
    """What the log was."""

    files: tuple[str, ...]
    """Names of the table's files."""
    kinds: tuple[str, ...]
    """Kinds of event, sorted; a kind's number is the position."""


@dataclasses.dataclass(frozen=True)
class Levels:
    """The values of rows, and how many rows of training tasks have each."""

    value: Float32Array
    """(V,) rising."""
    num_rows: IntArray
    """(V,) 0 of a value that only other tasks have."""

    @classmethod
    def of(cls, values: Iterable[Float32Array]) -> "Levels":
        """Count values, given in pieces."""
        found = cls(np.zeros(0, np.float32), np.zeros(0, np.int64))
        for piece in values:
            found = found.plus(cls(*np.unique(piece, return_counts=True)))
        return found

    def plus(self, other: "Levels", sign: int = 1) -> "Levels":
        """Return the counts of both added, or those of the other one taken away."""
        value, place = np.unique(np.concatenate([self.value, other.value]), return_inverse=True)
        num_rows = np.zeros(len(value), np.int64)
        np.add.at(num_rows, place, np.concatenate([self.num_rows, sign * other.num_rows]))
        return Levels(value, num_rows)

    def with_values(self, value: Float32Array) -> "Levels":
        """Return the same with further values, of which no training task has a row."""
        return self.plus(Levels(value, np.zeros(len(value), np.int64)))

    @property
    def trained(self) -> Float32Array:
        """The values that training tasks have, rising."""
        return self.value[self.num_rows > 0]

    def taken_from(self, objective: str) -> float | None:
        """Return the higher one of the training tasks' values where they are of two levels; else
        None."""
        levels = self.trained
        return float(levels[1]) if objective == "rating" and len(levels) == 2 else None


def write_state(folder: Folder, state: BuildState, levels: Levels) -> None:
    """Write what the log was, and its values."""
    folder.write_json(FILE, to_dict(state))
    columns = {schema.VALUE: pa.array(levels.value), _NUM_ROWS: pa.array(levels.num_rows)}
    write_table(folder, _LEVELS, pa.table(columns))


def read_state(folder: Folder) -> BuildState:
    """Read what the log was."""
    return parse(BuildState, folder.read_json(FILE))


def read_levels(folder: Folder) -> Levels:
    """Read the values, of a folder that is whole."""
    table = mapped(folder, _LEVELS)
    return Levels(table[schema.VALUE].to_numpy(), table[_NUM_ROWS].to_numpy())
