"""`recmeta ingest`, whose rows of each fate are counted as the others count them."""

from pathlib import Path

from recmeta.logs.mapping import LogMapping
from recmeta.steps.data import ingest
from recmeta.workspace import Workspace


def build(path: Path, folder: Path) -> dict[str, int]:
    """Ingest a log into a new workspace."""
    mapping = LogMapping(path=str(path), time_col="timestamp", value_col="rating", scale="1:5")
    return dict(ingest.run(mapping, Workspace(folder)).counts)
