"""Tasks of MovieLens 1M as the released code of MeLU reads them: every attribute by number."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.accuracy.problem import Problem
from recmeta.tasks.arrays import IntArray, offsets_of
from recmeta.tasks.task_set import Ragged, Tasks

USER_COLUMNS = ("gender", "age", "occupation", "zip_code")
ITEM_LISTS = {"genre": "genres", "director": "directors", "actor": "actors"}
UNKNOWN = "nan"
"""Stands where a film has no director or actor, as in the project's own files."""


def write(problem: Problem, cold: Mapping[str, Tasks], path: Path) -> None:
    """Write the training tasks with their queries, and the cold users' without their values."""
    found: dict[str, object] = {"states": np.array(list(cold))}
    attributes = problem.items.attributes
    found["item_rate"] = _numbered(attributes["rate"].fill_null(UNKNOWN))
    for name, column in ITEM_LISTS.items():
        lists = [row or [UNKNOWN] for row in attributes[column].to_pylist()]
        values = pa.array([value for row in lists for value in row])
        found[f"item_{name}"] = _numbered(values)
        found[f"item_{name}_offsets"] = offsets_of([len(row) for row in lists])
    # A number of a profile's value is the same in every split.
    splits = {"train": problem.train, **cold}
    profiles = pa.concat_tables([t.profile.select(USER_COLUMNS) for t in splits.values()])
    numbers = np.stack([_numbered(profiles[name]) for name in USER_COLUMNS], axis=1)
    first = 0
    for split, tasks in splits.items():
        found[f"{split}_user"] = numbers[first : first + len(tasks)]
        first += len(tasks)
        found |= _side(f"{split}_support", tasks.support)
        found |= _side(f"{split}_query", tasks.query)
        if split != "train":
            found[f"{split}_query_value"] = np.zeros_like(tasks.query.value)
    np.savez(path, **found)  # type: ignore[arg-type]


def _numbered(values: pa.Array | pa.ChunkedArray) -> IntArray:
    column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    numbers: IntArray = column.dictionary_encode().indices.to_numpy().astype(np.int64)
    return numbers


def _side(name: str, side: Ragged) -> dict[str, object]:
    return {
        f"{name}_offsets": side.offsets,
        f"{name}_item": side.item,
        f"{name}_value": side.value,
    }
