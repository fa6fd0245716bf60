"""A log of any size in a workspace, without ever being in memory: activity and popularity follow
power laws, and the table lies as ingest leaves it when a log comes in piece by piece.

Legend: N rows of a piece.
"""

import dataclasses
import datetime
import math

import numpy as np
import numpy.typing as npt
import polars as pl
from deltalake import write_deltalake

from recmeta import schema
from recmeta.logs.tables import create_tables
from recmeta.workspace import Workspace

START = int(datetime.datetime(2023, 1, 1, tzinfo=datetime.UTC).timestamp())
SECONDS = 2 * 365 * 86_400
"""The log's length."""
MICROSECONDS = 1_000_000
ROWS_PER_PIECE = 1_000_000
"""Rows of one ingest: a Delta commit, sorted by key within, later than the one before."""
ROWS_PER_USER = 40
OFFSET = 1e-3
"""Of the power law, in shares of all ranks. It keeps the busiest user at some 6,000 rows, however
long the log is; the median user has some 12."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SyntheticLog:
    """Ratings of users drawn by activity and items drawn by popularity."""

    num_rows: int
    """Rows drawn. Some are of a user with an item met before, as in real logs."""
    seed: int = 0

    @property
    def num_users(self) -> int:
        """How many users there are to draw from."""
        return max(1, self.num_rows // ROWS_PER_USER)

    @property
    def num_items(self) -> int:
        """How many items: a catalogue grows more slowly than its log, here as its root."""
        return max(10, 10 * math.isqrt(self.num_rows))

    def write(self, workspace: Workspace) -> None:
        """Write the `interactions` table, and empty ones of users and items."""
        create_tables(workspace)
        rng = np.random.default_rng(self.seed)
        user_id, item_id = (
            pl.Series(rng.permutation(size)).cast(pl.String)
            for size in (self.num_users, self.num_items)
        )
        num_pieces = -(-self.num_rows // ROWS_PER_PIECE)
        for piece in range(num_pieces):
            size = min(ROWS_PER_PIECE, self.num_rows - piece * ROWS_PER_PIECE)
            begin, end = (START + SECONDS * n // num_pieces for n in (piece, piece + 1))
            rows = pl.DataFrame(
                {
                    schema.USER_ID: user_id.gather(ranks(size, len(user_id), rng)),
                    schema.ITEM_ID: item_id.gather(ranks(size, len(item_id), rng)),
                    schema.TIMESTAMP: rng.integers(begin, end, size) * MICROSECONDS,
                    schema.EVENT: pl.repeat("rating", size, eager=True),
                    schema.VALUE: rng.integers(1, 6, size).astype(np.float64),
                    schema.SOURCE: pl.repeat(f"piece-{piece}", size, eager=True),
                    schema.INGESTED_AT: pl.repeat(end * MICROSECONDS, size, eager=True),
                }
            ).unique(schema.INTERACTIONS.key, keep="first", maintain_order=True)
            write_deltalake(
                workspace.table_uri(schema.INTERACTIONS),
                rows.sort(schema.INTERACTIONS.key).to_arrow().cast(schema.INTERACTIONS.columns),
                mode="append",
            )


def ranks(size: int, num_ranks: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return (N,) ranks from 0, each with a probability of about 1 / (rank + OFFSET · ranks)."""
    share = OFFSET * ((1 + OFFSET) / OFFSET) ** rng.random(size) - OFFSET
    ranks: npt.NDArray[np.int64] = np.minimum(share * num_ranks, num_ranks - 1).astype(np.int64)
    return ranks
