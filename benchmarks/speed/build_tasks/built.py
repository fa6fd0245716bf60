"""The tasks that a contestant built, which peers write in one form, for comparison with recmeta's.

A peer's file SPLIT.arrow has a row per task: `user_id`, and support and query as list columns.

Legend: T tasks, N rows.
"""

import hashlib
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc as ipc

from recmeta import schema
from recmeta.tasks.hashing import unit_hash
from recmeta.tasks.split_config import SplitConfig
from recmeta.tasks.task_set import SPLITS

LISTS = {
    schema.SUPPORT_ITEM: pa.int32(),
    schema.SUPPORT_VALUE: pa.float32(),
    schema.QUERY_ITEM: pa.int32(),
    schema.QUERY_VALUE: pa.float32(),
}
TASKS = pa.schema(
    [(schema.USER_ID, pa.string()), *((name, pa.list_(kind)) for name, kind in LISTS.items())]
)


def splits_of(user_id: pa.Array, config: SplitConfig, seed: int) -> npt.NDArray[np.str_]:
    """Return (users,) the split of each user, which is drawn by recmeta's hash of the id."""
    share = unit_hash(user_id, seed)
    test = share < config.test_share
    return np.where(
        test, "test", np.where(share < config.test_share + config.dev_share, "dev", "train")
    )


def write_split(folder: Path, split: str, tasks: pa.Table | pa.RecordBatchReader) -> None:
    """Write the tasks of a split, with the columns of TASKS."""
    with ipc.new_file(str(folder / f"{split}.arrow"), TASKS) as writer:
        for batch in tasks.to_batches() if isinstance(tasks, pa.Table) else tasks:
            writer.write_batch(batch.select(TASKS.names).cast(TASKS))


def read_splits(folder: Path) -> list[pa.Table]:
    """Return the tasks of each split, whichever contestant wrote them."""
    found = []
    for split in SPLITS:
        files = sorted(folder.glob(f"{split}*.arrow"))
        tables = [ipc.open_file(pa.memory_map(str(path))).read_all() for path in files]
        found.append(pa.concat_tables([table.select(TASKS.names) for table in tables]))
    return found


def digest(folder: Path) -> str:
    """Return a hash of every user's split, support and query, row by row and in their order."""
    found = hashlib.sha256()
    for table in read_splits(folder):
        table = table.sort_by(schema.USER_ID).combine_chunks()
        found.update("\n".join(table[schema.USER_ID].to_pylist()).encode())
        for name in LISTS:
            lists = table[name].combine_chunks()
            found.update(np.diff(lists.offsets.to_numpy()).astype(np.int64).tobytes())
            found.update(lists.flatten().to_numpy(zero_copy_only=False).tobytes())
    return found.hexdigest()


def bytes_on_disk(folder: Path) -> int:
    """Return the size of all task files."""
    return sum(os.path.getsize(path) for path in folder.glob("*.arrow"))
