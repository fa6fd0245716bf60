"""A log of any size in a file, with rows in it that have to be found: bad, repeated, replaced."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from benchmarks.speed.build_tasks.synthetic_log import SECONDS, START, SyntheticLog, ranks

ROWS_PER_PIECE = 1_000_000
BAD_SHARE = 0.001
"""Of the rows, whose value is on no scale."""
REPEATED_SHARE = 0.005
"""Of the rows, which stand there twice; a fifth of them with another value."""
FORMATS = ("parquet", "csv")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogFile:
    """Ratings of users drawn by activity and items drawn by popularity, in the order of time."""

    num_rows: int
    seed: int = 0

    def write(self, folder: Path) -> None:
        """Write `log.parquet` and `log.csv`, which hold the same rows."""
        rng = np.random.default_rng(self.seed)
        writer: pq.ParquetWriter | None = None
        with (folder / "log.csv").open("wb") as text:
            for start in range(0, self.num_rows, ROWS_PER_PIECE):
                rows = self._piece(start, min(ROWS_PER_PIECE, self.num_rows - start), rng)
                rows.write_csv(text, include_header=not start)
                table = rows.to_arrow()
                writer = writer or pq.ParquetWriter(folder / "log.parquet", table.schema)
                writer.write_table(table)
        assert writer is not None, "a log has rows"
        writer.close()

    def _piece(self, start: int, size: int, rng: np.random.Generator) -> pl.DataFrame:
        log = SyntheticLog(num_rows=self.num_rows)
        begin, end = (START + SECONDS * row // self.num_rows for row in (start, start + size))
        rows = pl.DataFrame(
            {
                "user_id": ranks(size, log.num_users, rng),
                "item_id": ranks(size, log.num_items, rng),
                "timestamp": np.sort(rng.integers(begin, end, size)),
                "rating": rng.integers(1, 6, size),
            }
        )
        bad = rng.random(size) < BAD_SHARE
        rows = rows.with_columns(
            pl.when(pl.Series(bad)).then(9).otherwise("rating").alias("rating")
        )
        repeated = np.flatnonzero(rng.random(size) < REPEATED_SHARE)[: size // 2]
        again = rows[repeated].with_columns((pl.col("rating") % 5 + 1).alias("other"))
        is_other = pl.Series(rng.random(len(repeated)) < 0.2)
        again = again.with_columns(
            pl.when(is_other).then("other").otherwise("rating").alias("rating")
        ).drop("other")
        return pl.concat([rows.head(size - len(repeated)), again])
