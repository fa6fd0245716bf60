"""How much memory an ingest may take, and how many rows it may therefore hold."""

import dataclasses
import os
import re

from recmeta.errors import UserError

_UNITS = {"": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_UNITS |= {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "B": 1}
LEAST = "768MiB"
OVERHEAD_BYTES = 512 * 2**20
"""Bytes that Python, its libraries and the blocks that are being read and checked take, as
measured."""
BYTES_PER_ROW = 450
"""Bytes of a row while it is settled and written, as measured; most of them are copies of its two
ids."""
KEPT_SHARE = 0.25
"""The share of the remaining memory that rows may take before they are put on the disk: settling
rows that are in memory takes about as much again for each step."""
MAX_WORKERS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class IngestConfig:
    """How ingest works. Its results do not depend on these settings."""

    memory: str = "2GiB"
    """The most memory to take, such as `1GiB` or `8GB`. Rows that do not fit are meanwhile put on
    the disk, in the workspace."""

    def __post_init__(self) -> None:
        if self.num_bytes < _bytes(LEAST):
            raise UserError(
                f"memory is {self.memory!r}; it must be at least {LEAST}, of which Python and its "
                "libraries take the most."
            )

    @property
    def num_bytes(self) -> int:
        """The memory in bytes."""
        return _bytes(self.memory)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """The numbers of rows that fit into the memory."""

    kept_bytes: int
    """The most rows in memory; a source with more rows goes to the disk."""
    rows_per_part: int
    """The number of rows that one worker settles at a time."""
    workers: int
    """The number of parts that are settled at a time."""

    @classmethod
    def of(cls, config: IngestConfig) -> "Budget":
        """Return the numbers that a configuration allows on this machine."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        workers = min(MAX_WORKERS, cores or 1)
        for_rows = config.num_bytes - OVERHEAD_BYTES
        return cls(
            kept_bytes=int(KEPT_SHARE * for_rows),
            rows_per_part=for_rows // (workers * BYTES_PER_ROW),
            workers=workers,
        )


def _bytes(text: str) -> int:
    """Return a number of bytes that is written with its unit. Raises UserError if it is invalid."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)\s*([A-Z]*)", text.strip().upper())
    if found is None or found[2] not in _UNITS:
        raise UserError(f"memory is {text!r}; it must be a number with a unit, such as 1GiB.")
    return int(float(found[1]) * _UNITS[found[2]])
