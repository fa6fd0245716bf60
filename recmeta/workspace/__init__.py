"""One root, local or in an object store, for everything that the pipeline stores.

tables/NAME        Delta tables
tasks/KEY          a task set (Arrow shards)
models/KEY         checkpoints and the finished model of a training run
reports/KEY        an evaluation
text_vectors/MODEL vectors of texts, by content
manifests/STEP     what each step did
events             what users did since the last ingest, as the endpoint was told
format.json        the version of this layout
report.md          what the last run of the whole pipeline found
"""

from recmeta.workspace.folder import Folder, MemoryFolder
from recmeta.workspace.object_store import storage_options
from recmeta.workspace.root import REPORT, Workspace, check_delta_path
from recmeta.workspace.sealed import DIGESTS, Sealed, arrow_table, resumed, sealed, sealing
from recmeta.workspace.writing import works, writes, writes_alone

__all__ = [
    "DIGESTS",
    "REPORT",
    "Folder",
    "MemoryFolder",
    "Sealed",
    "Workspace",
    "arrow_table",
    "check_delta_path",
    "resumed",
    "sealed",
    "sealing",
    "storage_options",
    "works",
    "writes",
    "writes_alone",
]
