"""Items as vectors of their attributes: rows of length about 1, for linear models.

Legend: I items, F columns.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.item_files import Items

MAX_COLUMNS = 512
FEWEST_ITEMS = 3  # a value that fewer items have does not generalise
CLIP = 3.0  # standard deviations


def item_content(items: Items, max_columns: int = MAX_COLUMNS) -> tuple[torch.Tensor, list[str]]:
    """Return (I, F) float32 attributes of each item's first version, and the columns' names.

    A category, or each value of a list, is a column; the values that most items have are kept. A
    number is one column in the bound of numbers, in standard deviations, 0 where unknown. An
    attribute's values are scaled so that its columns of an item have length 1, and those of all
    attributes together too. No ratings are read.
    """
    first = np.flatnonzero(np.diff(items.item, prepend=-1))
    table = items.attributes.take(pa.array(first))
    numbers = [n for n in table.column_names if _is_number(table[n].type)]
    columns: list[Float64Array] = []
    names: list[str] = []
    for name in numbers:
        columns.append(_standardised(table[name]))
        names.append(name)
    rows, values = _values(table, [n for n in table.column_names if n not in numbers])
    vocabulary, code = np.unique(values, return_inverse=True)
    count = np.bincount(code, minlength=len(vocabulary))
    order = np.argsort(-count, kind="stable")[: max_columns - len(columns)]
    kept = np.sort(order[count[order] >= FEWEST_ITEMS])
    place = np.full(len(vocabulary), -1)
    place[kept] = np.arange(len(kept))
    known = place[code] >= 0
    matrix = np.zeros((len(first), len(kept)))
    matrix[rows[known], place[code[known]]] = 1.0
    names += vocabulary[kept].tolist()
    attribute = np.array([name.split("=")[0] for name in names])
    matrix = np.column_stack([*columns, matrix]) if columns else matrix
    for name in np.unique(attribute):
        if name not in numbers:
            of = attribute == name
            matrix[:, of] /= np.maximum(np.linalg.norm(matrix[:, of], axis=1, keepdims=True), 1e-12)
    matrix /= np.sqrt(max(1, len(np.unique(attribute))))
    return torch.from_numpy(matrix.astype(np.float32)), names


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _standardised(column: pa.ChunkedArray) -> Float64Array:
    value = pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy()
    spread = np.nanstd(value) if np.isfinite(value).any() else 0.0
    if not spread > 0:
        return np.zeros(len(value))
    scaled: Float64Array = np.nan_to_num((value - np.nanmean(value)) / spread)
    return np.clip(scaled, -CLIP, CLIP)


def _values(table: pa.Table, names: list[str]) -> tuple[IntArray, npt.NDArray[np.str_]]:
    """Return the items and `attribute=value` labels of all categories and list entries."""
    rows, values = [np.zeros(0, np.int64)], [np.zeros(0, np.str_)]
    for name in names:
        column = table[name].combine_chunks()
        if pa.types.is_list(column.type):
            row = pc.list_parent_indices(column).to_numpy().astype(np.int64)
            flat = column.flatten().cast(pa.string())
        else:
            row, flat = np.arange(len(column)), column.cast(pa.string())
        present = pc.is_valid(flat).to_numpy(zero_copy_only=False)
        rows.append(row[present])
        named = pc.binary_join_element_wise(name, flat.drop_null(), "=")
        values.append(np.array(named.to_pylist(), np.str_))
    return np.concatenate(rows), np.concatenate(values)
