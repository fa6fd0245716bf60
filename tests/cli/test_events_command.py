"""`recmeta ingest --events`: what the endpoint has kept comes into the log, without a log."""

from pathlib import Path

import polars as pl
from cli_calls import Call

from recmeta.logs.events.opening import make_event_store
from recmeta.logs.events.store import StoredEvent
from recmeta.workspace import Workspace


def test_events_are_ingested_alone(recmeta: Call, tmp_path: Path) -> None:
    workspace = tmp_path / "ws"
    nothing = recmeta("ingest", "--events", "-w", workspace, "--json")
    assert (nothing.code, nothing.json["rows_read"]) == (0, 0)
    assert "The endpoint has kept no event since the last time." in nothing.stderr
    store = make_event_store(Workspace(workspace))
    kept = StoredEvent(
        event_id="e", user_id="u", item_id="i", event="click", value=1.0, timestamp=None
    )
    store.append([[kept]])
    called = recmeta("ingest", "--events", "-w", workspace, "--json")
    assert called.json == {"rows_read": 1, "accepted": 1, "duplicates": 0, "quarantined": 0}
    (row,) = pl.read_delta(f"{workspace}/tables/interactions").to_dicts()
    assert (row["user_id"], row["item_id"], row["event"], row["value"]) == ("u", "i", "click", 1.0)
    refused = recmeta("ingest", "log.csv", "--events", "-w", workspace, "--json")
    assert refused.code == 2
    assert "--events reads no log" in refused.json["error"]
    tried = recmeta("ingest", "--events", "--dry-run", "-w", workspace, "--json")
    assert tried.code == 2
    assert "cannot be combined" in tried.json["error"]
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id\nv,i\n")
    store.append([[StoredEvent(**{**vars(kept), "event_id": "f", "item_id": "j"})]])
    both = recmeta("ingest", log, "-w", workspace, "--json")
    assert (both.json["accepted"], both.json["events"]) == (1, 1)
    assert "1 event that the endpoint had kept came into the log, too." in both.stderr
