"""The origin of a model: the data that it was fitted on, so that it is measured on users whom it
never saw.

origin.json         how the tasks were built, the interactions' fingerprint, the columns' names
seen_users.parquet  a 53-bit hash of each user whom the model learned from
"""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recmeta import schema
from recmeta.api.data.columns import Columns
from recmeta.api.data.frames import Kind
from recmeta.config import parse, to_dict
from recmeta.evaluation.judgement import JudgementConfig
from recmeta.steps.parts.task_building import BuildTasksConfig
from recmeta.tasks.hashing import unit_hash
from recmeta.tasks.task_set import TaskSet
from recmeta.workspace import Folder

ORIGIN, SEEN = "origin.json", "seen_users.parquet"
HASH = "hash"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """The data that a model was fitted on, and the configuration."""

    tasks: BuildTasksConfig
    """The configuration of the tasks, which decides who is held out."""
    evaluate: JudgementConfig
    """The default configuration of its evaluation."""
    data: str
    """`Dataset.fingerprint`."""
    columns: Columns
    """The columns of the frame of interactions."""
    kind: Kind
    """The library of the frames."""


def hashes(user_id: pa.Array) -> npt.NDArray[np.int64]:
    """Return a stable hash of each user's id, which reveals little of the id."""
    found: npt.NDArray[np.int64] = (unit_hash(user_id, 0) * 2**53).astype(np.int64)
    return found


def seen_by(task_set: TaskSet) -> npt.NDArray[np.int64]:
    """Return the hashes of the users whom training reads: the training users and the development
    users."""
    everybody = task_set.joined().tasks("train").profile[schema.USER_ID].combine_chunks()
    return np.unique(hashes(pc.unique(everybody)))


def write(folder: Folder, origin: Origin, seen: npt.NDArray[np.int64]) -> None:
    """Write both files."""
    folder.write_json(ORIGIN, to_dict(origin))
    folder.write_parquet(SEEN, pa.table({HASH: seen}))


def read(folder: Folder) -> tuple[Origin, npt.NDArray[np.int64]] | None:
    """Return what `write` wrote, or None if a step of the pipeline wrote the model."""
    if not folder.exists(ORIGIN):
        return None
    values: dict[str, Any] = folder.read_json(ORIGIN)
    return parse(Origin, values), folder.read_parquet(SEEN)[HASH].to_numpy()
