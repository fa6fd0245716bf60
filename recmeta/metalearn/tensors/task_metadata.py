"""A task's metadata: numbers that describe a task before anything is learned from it.

A learner reads a support to predict; these numbers describe the kind of task, and algorithms are
selected by them (meta-features: Brazdil, Giraud-Carrier, Soares, Vilalta, Metalearning, 2009,
section 2.3).

Legend: B tasks, S support rows (padded), M numbers of a task.
"""

import torch

from recmeta.metalearn.tensors.batch import Support
from recmeta.metalearn.tensors.encoding import ITEM_ID_FIELD, Features

METADATA = (
    "has support",
    "size of the support",
    "mean value",
    "spread of the values",
    "mean surprise",
    "mean absolute surprise",
    "items' mean value",
    "items' popularity",
    "share of items that are new",
    "share of the profile that is known",
)
"""The names of the numbers, in order. A surprise is a value minus the item's mean."""
PRIOR_ROWS = 3.0
"""Means over a support are shrunk to 0, and spreads to 1, as if by this many more rows."""


def task_metadata(
    support: Support, item_features: Features, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Return the tasks' metadata (B, M), each number about as large as 1.

    Args:
        item_features: the encoded catalogue; an item whose id has code 0 is new.
    """
    rows = support.rows
    mask_BS = rows.mask_BR.to(dtype)
    count_B = mask_BS.sum(1)
    value_BS = rows.value_BR.to(dtype)
    past_BSD = rows.statistics_BRD.to(dtype)

    def mean(number_BS: torch.Tensor) -> torch.Tensor:
        return (number_BS * mask_BS).sum(1) / (count_B + PRIOR_ROWS)

    middle_B1 = ((value_BS * mask_BS).sum(1) / count_B.clamp(min=1))[:, None]
    square_B = ((value_BS - middle_B1).square() * mask_BS).sum(1)
    surprise_BS = value_BS - past_BSD[..., 0]
    if ITEM_ID_FIELD in item_features:
        new_BS = (item_features[ITEM_ID_FIELD][rows.item_BR] == 0).to(dtype)
    else:
        new_BS = torch.zeros_like(mask_BS)
    return torch.stack(
        [
            (count_B > 0).to(dtype),
            count_B.log1p() / 4,
            mean(value_BS),
            ((square_B + PRIOR_ROWS) / (count_B + PRIOR_ROWS)).sqrt(),
            mean(surprise_BS),
            mean(surprise_BS.abs()),
            mean(past_BSD[..., 0]),
            mean(past_BSD[..., 1]),
            mean(new_BS),
            _known_share(support.user, count_B),
        ],
        1,
    )


def _known_share(user: Features, like_B: torch.Tensor) -> torch.Tensor:
    """Return the share of a profile's attributes that are known, (B,), or 0 without attributes. An
    unknown attribute is encoded as zeros."""
    if not user:
        return torch.zeros_like(like_B)
    known = [(values.reshape(len(values), -1) != 0).any(1) for values in user.values()]
    return torch.stack(known).to(like_B.dtype).mean(0)
