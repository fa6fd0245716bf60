"""ingest's counts ──▶ a verdict: is this day's log fit to build tasks from?

Ingest has already checked every row. This step checks the day as a whole: whether too many rows are
in the quarantine, whether there are no rows or no new ones, and whether the volume is unlike that
of the days before.
"""

import dataclasses
import statistics

from recmeta.errors import UserError
from recmeta.manifest import Manifest, find
from recmeta.steps.data import ingest
from recmeta.steps.data.ingest import IngestOutputs
from recmeta.steps.parts import days
from recmeta.workspace import Workspace


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataQualityConfig:
    """What is required of a day's log."""

    min_rows: int = 1
    """The fewest rows that must be accepted. With 0, a day without new rows passes."""
    max_quarantined_share: float = 0.05
    """The largest share (0 to 1) of the rows read that may be in the quarantine."""
    max_volume_ratio: float = 20.0
    """New rows, which are those read without the duplicates of known ones, may be at most this many
    times, and at least this many times less than, the median of the days before."""
    num_days_compared: int = 14
    """The number of earlier days with which the volume is compared; with fewer than 3 known days it
    is not."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_quarantined_share <= 1:
            raise UserError(
                f"max_quarantined_share is {self.max_quarantined_share}; it must be from 0 to 1."
            )
        if self.max_volume_ratio < 1:
            raise UserError(f"max_volume_ratio is {self.max_volume_ratio}; it must be at least 1.")


MIN_DAYS = 3


def check(
    workspace: Workspace, ingested: Manifest[IngestOutputs], config: DataQualityConfig | None = None
) -> dict[str, float]:
    """Return the measures of an ingest, if it is fit to build tasks from.

    Args:
        ingested: the manifest of ingest.

    Raises:
        UserError: if it is not fit; the message says everything that is wrong, and what to do.
    """
    config = config or DataQualityConfig()
    counts = ingested.counts
    rows = counts["rows_read"]
    share = counts["quarantined"] / rows if rows else 0.0
    faults = []
    accepted, new = counts["accepted"], rows - counts["duplicates"]
    if not rows and config.min_rows:
        faults.append("it has no rows")
    elif not new and config.min_rows:
        faults.append(
            f"it has no new rows: all of its {rows} rows are in the interactions already, as if "
            "another day had been delivered again"
        )
    elif accepted < config.min_rows:
        faults.append(
            f"{accepted} of its {rows} rows were accepted, fewer than min_rows ({config.min_rows})"
        )
    if share > config.max_quarantined_share:
        faults.append(
            f"{share:.1%} of its {rows} rows are in the quarantine, more than "
            f"max_quarantined_share ({config.max_quarantined_share:.1%})"
        )
    measured = {
        "rows_read": float(rows),
        "accepted": float(accepted),
        "quarantined_share": share,
    }
    usual = _usual_rows(workspace, ingested, config.num_days_compared)
    if usual and new:
        measured["volume_ratio"] = new / usual
        if not 1 / config.max_volume_ratio <= new / usual <= config.max_volume_ratio:
            faults.append(
                f"it has {new} new rows, while the days before had {usual:g} (their median), "
                f"beyond max_volume_ratio ({config.max_volume_ratio:g})"
            )
    if faults:
        raise UserError(
            f"the log that was ingested as {ingested.outputs.source} is not fit to build tasks "
            f"from: {'; '.join(faults)}. Its good rows are in the interactions. Look at its source "
            "and at its rows in the quarantine; if the log is right, loosen the limit and run the "
            "day again."
        )
    return measured


def _usual_rows(
    workspace: Workspace, ingested: Manifest[IngestOutputs], num_days: int
) -> float | None:
    """Return the median of the new rows of the days before this ingest's, if enough are known."""
    keys = {day: days.ingest_of(workspace, day) for day in days.ingested_days(workspace)}
    own = [day for day, key in keys.items() if key == ingested.key]
    if not own:
        return None
    before = [day for day in keys if day < own[0]][-num_days:]
    found = [find(workspace, ingest.STEP, keys[day]) for day in before]
    counts = [manifest.counts for manifest in found if manifest is not None]
    new = [known["rows_read"] - known["duplicates"] for known in counts]
    brought = [rows for rows in new if rows]
    return statistics.median(brought) if len(brought) >= MIN_DAYS else None
