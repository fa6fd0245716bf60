"""One root, local or in an object store, for everything that the pipeline keeps.

tables/NAME        Delta tables
tasks/KEY          a task set (Arrow shards)
models/KEY         checkpoints and the finished model of a training run
reports/KEY        an evaluation
text_vectors/MODEL vectors of texts, by content
manifests/STEP     what each step did
report.md          what the last run of the whole pipeline found
"""

from recmeta.workspace.folder import Folder, MemoryFolder
from recmeta.workspace.object_store import storage_options
from recmeta.workspace.root import REPORT, Workspace, check_delta_path
from recmeta.workspace.writing import writes, writes_alone

__all__ = [
    "REPORT",
    "Folder",
    "MemoryFolder",
    "Workspace",
    "check_delta_path",
    "storage_options",
    "writes",
    "writes_alone",
]
