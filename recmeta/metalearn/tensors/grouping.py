"""Groups of users with supports of similar length, for little padding and tensors that fit a core's
cache.

The batch remains the same seeded draw; only its tensors are divided. The gradient of a batch is the
sum of its groups' gradients, so that the division changes nothing beyond float rounding.

Legend: B users, R rows.
"""

import dataclasses
import itertools

import numpy as np
import torch

from recmeta.metalearn.tensors.batch import Rows, TaskBatch
from recmeta.tasks.arrays import IntArray

GROUP_COST = 300
"""The number of padded rows that take as long as the fixed cost of another group, some hundred
small operations; measured with MeLU's shape on one core."""
MOST_ROWS = 8_000
"""The largest group on a CPU, in rows: 64 columns of them are 2 MB. Larger groups do not fit the
caches and leave threads idle."""
MOST_ROWS_ON_GPU = 1_000_000
"""The largest group on a GPU, in rows, so that a batch of any size fits in memory: a step holds
some ten tensors of this many rows, 1 GB each if rows have 256 features."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Users of similar length."""

    user_B: torch.Tensor
    """The users' positions in the batch."""
    support: Rows
    query: Rows


def groups_by_length(batch: TaskBatch, least_rows: int = 0) -> list[Group]:
    """Return the batch divided into groups, the longest supports last, each padded to its own
    longest support.

    Args:
        least_rows: the number of rows whose memory a user takes at least.
    """
    support, query = batch.support.rows, batch.query
    lengths_2B = torch.stack([_lengths(support), _lengths(query)]).cpu().numpy()
    order = np.lexsort((lengths_2B[1], lengths_2B[0]))
    most_rows = MOST_ROWS if support.mask_BR.device.type == "cpu" else MOST_ROWS_ON_GPU
    bounds = cuts(lengths_2B[0][order], lengths_2B[1][order], most_rows, least_rows)
    groups = []
    for first, last in itertools.pairwise(bounds):
        users = order[first:last]
        num_support, num_query = lengths_2B[:, users].max(1)
        index_B = torch.from_numpy(users).to(support.mask_BR.device)
        groups.append(
            Group(index_B, _cut(support, index_B, num_support), _cut(query, index_B, num_query))
        )
    return groups


def cuts(
    support_B: IntArray,
    query_B: IntArray,
    most_rows: int,
    least_rows: int = 0,
) -> list[int]:
    """Return the bounds, from 0 to B, of groups of users who are sorted by their support's length.

    A run of users is divided in two where that saves most padding, as long as it saves more than a
    group costs or the run has too many rows.
    """
    num_users = len(support_B)
    bounds = [0]
    runs = [(0, num_users)] if num_users else []
    while runs:
        first, last = runs.pop()
        longest = int(support_B[last - 1])
        users = np.arange(1, last - first)
        saved = users * (longest - support_B[first : last - 1])
        width = max(longest + int(query_B[first:last].max(initial=0)), least_rows)
        if len(users) and saved.max() > GROUP_COST:
            middle = first + 1 + int(saved.argmax())
        elif len(users) and (last - first) * width > most_rows:
            middle = (first + last) // 2
        else:
            bounds.append(last)
            continue
        runs += [(middle, last), (first, middle)]
    return bounds


def _lengths(rows: Rows) -> torch.Tensor:
    """Return (B,) the place after each user's last row."""
    place_R = torch.arange(1, rows.mask_BR.shape[1] + 1, device=rows.mask_BR.device)
    if len(place_R) == 0:
        return place_R.new_zeros(len(rows.mask_BR))
    return (rows.mask_BR * place_R).amax(1)


def _cut(rows: Rows, user_B: torch.Tensor, num_rows: int) -> Rows:
    tensors = {name: t for name, t in vars(rows).items() if isinstance(t, torch.Tensor)}
    return dataclasses.replace(
        rows, **{name: t[:, :num_rows].index_select(0, user_B) for name, t in tensors.items()}
    )
