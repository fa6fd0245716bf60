"""What a prior-fitted network reads of a log: counts, which every log has from its first row on.

    count_i        users who took an item: ever, and among the last quarter and twentieth of rows
    together_ij    users who took both
    agreement_ij   Σ over these users of (z_ui - z̄_i) (z_uj - z̄_j), of ratings
    vector_i       the right singular vectors of X D^-½, X being who took what and D the counts
                   (PureSVD: Cremonesi, Koren, Turrin, RecSys 2010, normalised)
    size           users, items that anybody took, and rows

Nothing in them names an item: numbering the items otherwise permutes the tables' rows.

Legend: N rows, n rows of some items, U users, C codes of items (0: an item that nobody took), K
neighbours, F factors.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from recmeta.metalearn.learner import Params
from recmeta.tasks.arrays import Float64Array, IntArray, offsets_of, positions_of

COUNT, SIZE = "log.count", "log.size"
NEIGHBOUR, TOGETHER, AGREEMENT = "log.neighbour", "log.together", "log.agreement"
VECTOR = "log.vector"
PREFIX = "log."
"""How the names of all of them begin."""
NUM_NEIGHBOURS = 100
"""Items of which it is kept how often they were taken together with an item: those of the largest
cosine."""
NUM_FACTORS = 64
RECENT_SHARES = (0.25, 0.05)
"""The newest rows whose items are counted apart."""
MOST_PAIRS = 200_000_000
"""The most pairs of rows that are counted. If there are more, users are left out at random, and the
counts of pairs are scaled up to all users, since the network compares them with counts of all."""
PAIRS_AT_ONCE = 5_000_000
POWER_ITERATIONS = 4


class LogRows(NamedTuple):
    """The rows of a log, sorted by user."""

    user: IntArray
    """(N,) from 0, rising."""
    code: IntArray
    """(N,) of the item, from 1."""
    value: Float64Array
    """(N,) in units of the model; 1 where feedback is implicit."""
    recency: Float64Array | None = None
    """(N,) the share of all rows that are newer; None where there are no times."""


def recencies(time_N: npt.NDArray[np.number]) -> Float64Array:
    """Return (N,) the share of all rows that are newer than each."""
    newer_N = len(time_N) - np.searchsorted(np.sort(time_N), time_N, side="right")
    found: Float64Array = newer_N / max(len(time_N), 1)
    return found


def empty_statistics(num_codes: int) -> Params:
    """Return the statistics of a log without rows."""
    return {
        COUNT: torch.zeros((num_codes, 1 + len(RECENT_SHARES))),
        NEIGHBOUR: torch.full((num_codes, NUM_NEIGHBOURS), float(num_codes)),
        TOGETHER: torch.zeros((num_codes, NUM_NEIGHBOURS)),
        AGREEMENT: torch.zeros((num_codes, NUM_NEIGHBOURS)),
        VECTOR: torch.zeros((num_codes, NUM_FACTORS)),
        SIZE: torch.zeros(3),
    }


def log_statistics(rows: LogRows, num_codes: int, seed: int) -> Params:
    """Return the statistics of a log, as float32 tensors by name.

    Codes are kept as floats, which are exact up to 16 million items.

    Args:
        num_codes: C.
        seed: of the subspace that singular vectors are sought in, and of the users who are left out
            where there are too many pairs.
    """
    if not len(rows.code):
        return empty_statistics(num_codes)
    generator = np.random.default_rng(seed)
    count_C = np.bincount(rows.code, minlength=num_codes).astype(np.float64)
    counts: list[npt.NDArray[np.number]] = [count_C]
    for share in RECENT_SHARES:
        # Without times, the share of the rows is what it would be if nothing changed.
        if rows.recency is None:
            counts.append(share * count_C)
        else:
            is_recent = (rows.recency < share).astype(np.float64)
            counts.append(np.bincount(rows.code, is_recent, minlength=num_codes))
    neighbours = _neighbours(rows, count_C, num_codes, generator)
    size = [rows.user[-1] + 1, np.count_nonzero(count_C), len(rows.code)]
    found = {
        COUNT: np.stack(counts, 1),
        **neighbours,
        VECTOR: _vectors(rows, count_C, num_codes, generator),
        SIZE: np.array(size),
    }
    return {name: torch.from_numpy(a.astype(np.float32)) for name, a in found.items()}


def _neighbours(
    rows: LogRows, count_C: Float64Array, num_codes: int, generator: np.random.Generator
) -> dict[str, Float64Array]:
    """Return each item's neighbours (C, K), rising, and what is counted of the pairs.

    What a block of items was taken together with is counted in a dense table, block by block.
    """
    rows, share = _fewer_users(rows, generator)
    sum_C = np.bincount(rows.code, rows.value, minlength=num_codes)
    mean_C = sum_C / np.maximum(np.bincount(rows.code, minlength=num_codes), 1)
    centred = rows.value - mean_C[rows.code]
    length_U = np.bincount(rows.user)
    offset_U = offsets_of(length_U)
    by_code = np.argsort(rows.code, kind="stable")
    pairs_C = np.bincount(rows.code, length_U[rows.user], minlength=num_codes)
    # Both shares rise, so that their sum is the same for neighbours in one block alone.
    block_C = np.cumsum(pairs_C) // PAIRS_AT_ONCE
    block_C += np.arange(num_codes) // max(1, PAIRS_AT_ONCE // num_codes)
    first_C = offsets_of(np.bincount(rows.code, minlength=num_codes))
    shape = (num_codes, NUM_NEIGHBOURS)
    neighbour_CK = np.full(shape, num_codes, np.int64)
    together_CK, agreement_CK = np.zeros(shape), np.zeros(shape)
    num_kept = min(NUM_NEIGHBOURS, num_codes)
    for block in np.unique(block_C):
        codes = np.flatnonzero(block_C == block)
        first, last = int(codes[0]), int(codes[-1]) + 1
        row_n = by_code[first_C[first] : first_C[last]]
        length_n = length_U[rows.user[row_n]]
        source = np.repeat(rows.code[row_n] - first, length_n)
        other = np.repeat(offset_U[rows.user[row_n]], length_n) + positions_of(length_n)
        key = source * num_codes + rows.code[other]
        product = np.repeat(centred[row_n], length_n) * centred[other]
        size = (last - first) * num_codes
        together = np.bincount(key, minlength=size).reshape(last - first, num_codes)
        together[np.arange(last - first), np.arange(first, last)] = 0
        agreement = np.bincount(key, product, minlength=size).reshape(together.shape)
        cosine = together / np.sqrt(np.maximum(count_C, 1))
        kept = np.argpartition(-cosine, num_kept - 1, axis=1)[:, :num_kept]
        none = np.take_along_axis(together, kept, 1) == 0
        kept = np.sort(np.where(none, num_codes, kept), axis=1)
        place = np.minimum(kept, num_codes - 1)
        is_real = kept < num_codes
        neighbour_CK[first:last, :num_kept] = kept
        together_CK[first:last, :num_kept] = np.take_along_axis(together, place, 1) * is_real
        agreement_CK[first:last, :num_kept] = np.take_along_axis(agreement, place, 1) * is_real
    return {
        NEIGHBOUR: neighbour_CK.astype(np.float64),
        TOGETHER: together_CK / share,
        AGREEMENT: agreement_CK / share,
    }


def _fewer_users(rows: LogRows, generator: np.random.Generator) -> tuple[LogRows, float]:
    """Return the rows of users drawn at random, as many as the pairs that are counted allow, and
    their share of the users with rows. A user whose pairs alone are too many is never drawn."""
    length_U = np.bincount(rows.user)
    pairs_U = length_U.astype(np.int64) ** 2
    if pairs_U.sum() <= MOST_PAIRS:
        return rows, 1.0
    order = generator.permutation(len(length_U))
    order = order[pairs_U[order] <= MOST_PAIRS]
    is_kept_U = np.zeros(len(length_U), np.bool_)
    is_kept_U[order[np.cumsum(pairs_U[order]) <= MOST_PAIRS]] = True
    kept = is_kept_U[rows.user]
    users, user = np.unique(rows.user[kept], return_inverse=True)
    share = len(users) / np.count_nonzero(length_U)
    return LogRows(user, rows.code[kept], rows.value[kept]), max(share, 1 / len(length_U))


def _vectors(
    rows: LogRows, count_C: Float64Array, num_codes: int, generator: np.random.Generator
) -> Float64Array:
    """Return (C, F) singular vectors, the largest first, by subspace iteration (Halko, Martinsson,
    Tropp, SIAM Review 2011, algorithm 4.4); zeros beyond the rank."""
    num_users = int(rows.user[-1]) + 1
    rank = min(NUM_FACTORS, num_users, num_codes)
    weight = 1 / np.sqrt(np.maximum(count_C[rows.code], 1))
    place = torch.from_numpy(np.stack([rows.user, rows.code]))
    matrix_UC = torch.sparse_coo_tensor(
        place, torch.from_numpy(weight), (num_users, num_codes), check_invariants=False
    ).coalesce()
    matrix_CU = matrix_UC.t().coalesce()
    width = min(rank + 8, num_users, num_codes)
    basis_Cw = torch.from_numpy(generator.standard_normal((num_codes, width)))
    for _ in range(POWER_ITERATIONS):
        basis_Uw, _ = torch.linalg.qr(torch.sparse.mm(matrix_UC, basis_Cw))
        basis_Cw, _ = torch.linalg.qr(torch.sparse.mm(matrix_CU, basis_Uw))
    *_, right_ww = torch.linalg.svd(torch.sparse.mm(matrix_UC, basis_Cw), full_matrices=False)
    found_CF = np.zeros((num_codes, NUM_FACTORS))
    found_CF[:, :rank] = (basis_Cw @ right_ww.T)[:, :rank].numpy()
    return found_CF
