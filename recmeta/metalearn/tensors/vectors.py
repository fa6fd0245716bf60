"""Long vectors as attributes, such as sentence embeddings, reduced to their principal components.

A sentence embedding has hundreds of numbers, and there are too few items to learn the effect of
each of them. The directions in which items differ most preserve most of their cosine similarities.

Legend: N vectors, W numbers of a raw vector, D components that are read.
"""

import numpy as np
import pyarrow as pa

from recmeta.errors import UserError
from recmeta.tasks.arrays import Float32Array


def is_vector(kind: pa.DataType) -> bool:
    """Return whether a column holds vectors: lists of numbers, all of one length."""
    return bool(pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type))


def raw_vectors(column: pa.Array) -> Float32Array:
    """Return the vectors (N, W) of a column without those that are null."""
    flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    vectors: Float32Array = flat.reshape(-1, column.type.list_size)
    return vectors


def principal_components(raw_NW: Float32Array, most: int) -> Float32Array:
    """Return the map (W + 1, D) to the leading D principal components, D being `most` or W.

    Its last row shifts the mean to 0. It is scaled as a whole, so that the components have variance
    1 on average and keep their proportions.
    """
    width = min(most, raw_NW.shape[1])
    mean_W = raw_NW.mean(0, dtype=np.float64) if len(raw_NW) else np.zeros(raw_NW.shape[1])
    apart_NW = raw_NW.astype(np.float64) - mean_W
    _, direction_WW = np.linalg.eigh(apart_NW.T @ apart_NW)
    found_WD = direction_WW[:, ::-1][:, :width]
    # The sign of a direction is arbitrary: its largest number is made positive.
    largest_D = np.abs(found_WD).argmax(0)
    found_WD = found_WD * np.sign(found_WD[largest_D, np.arange(width)])
    variance = float(np.square(apart_NW @ found_WD).mean()) if len(raw_NW) else 0.0
    found_WD = found_WD / np.sqrt(variance) if variance > 1e-12 else np.zeros_like(found_WD)
    return np.vstack([found_WD, -mean_W @ found_WD]).astype(np.float32)


def read_vectors(name: str, column: pa.Array, map_WD: Float32Array) -> Float32Array:
    """Return the components of a column of vectors, (N, D), or 0 for a null.

    Raises:
        UserError: if the vectors do not have the length that the map was made for.
    """
    read_ND = np.zeros((len(column), map_WD.shape[1]), np.float32)
    if pa.types.is_null(column.type):
        return read_ND
    expected = len(map_WD) - 1
    if not is_vector(column.type) or column.type.list_size != expected:
        raise UserError(
            f"the attribute {name!r} is of type {column.type}, and the model reads vectors of "
            f"{expected} numbers there: make them as they were made for its training."
        )
    present_N = column.is_valid().to_numpy(zero_copy_only=False)
    read_ND[present_N] = raw_vectors(column) @ map_WD[:-1] + map_WD[-1]
    return read_ND
