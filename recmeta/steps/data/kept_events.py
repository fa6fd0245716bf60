"""events that the endpoint has kept ──▶ a log that is ingested like any other, once."""

import contextlib
from collections.abc import Callable, Mapping

from recmeta import schema
from recmeta.logs.events.opening import event_store
from recmeta.logs.events.store import MOST_PENDING
from recmeta.logs.mapping import LogMapping
from recmeta.workspace import Workspace

COUNTS = ("rows_read", "accepted", "duplicates", "quarantined")


def take_in(
    workspace: Workspace, ingest: Callable[[LogMapping], Mapping[str, int]]
) -> dict[str, int]:
    """Ingest the events that the log does not have yet, and note that it has them.

    If this call is killed in between, the next one ingests the same rows again, which are then
    duplicates.

    Args:
        ingest: ingests a log, and returns its counts.
    """
    total = dict.fromkeys(COUNTS, 0)
    store = event_store(workspace)
    if store is None:
        return total
    with contextlib.closing(store), workspace.temporary_folder() as folder:
        num_rows = MOST_PENDING
        # One block at a time; what comes in behind the last one waits for the next ingest.
        while num_rows == MOST_PENDING:
            last, rows = store.pending(MOST_PENDING)
            num_rows = rows.height
            if num_rows:
                path = f"{folder}/events.parquet"
                rows.write_parquet(path)
                counts = ingest(_mapping(path))
                store.note_ingested(last)
                total = {name: total[name] + counts[name] for name in COUNTS}
    return total


def _mapping(path: str) -> LogMapping:
    """Return how the events are read: without changes, since they were checked on arrival."""
    return LogMapping(
        path=path,
        time_col=schema.TIMESTAMP,
        event_col=schema.EVENT,
        value_col=schema.VALUE,
        keep_default_nulls=False,
        earliest_time="0001-01-01",
        max_bad_share=1.0,
    )
