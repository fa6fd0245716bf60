"""Fields, features and padded tasks for the tests of gradients.

Legend: B users, R rows.
"""

import torch

from recmeta.metalearn.tensors.batch import NUM_STATISTICS, Rows, Support, TaskBatch
from recmeta.metalearn.tensors.encoding import Features, Field

USER_FIELDS = (
    Field("group", "categorical", ("a", "b", "c")),
    Field("hobbies", "multi", ("x", "y", "z"), width=3),
    Field("age", "numeric"),
)
ITEM_FIELDS = (
    Field("genres", "multi", ("k", "l", "m", "n"), width=2),
    Field("year", "numeric"),
    Field("item_id", "categorical", tuple(f"i{n}" for n in range(9))),
)
NUM_ITEMS = 10
SUPPORT_LENGTHS = (0, 1, 2, 7, 50)
QUERY_LENGTHS = (3, 1, 12, 4, 6)


def item_features(generator: torch.Generator) -> Features:
    return {
        "genres": torch.randint(0, 5, (NUM_ITEMS, 2), generator=generator),
        "year": torch.randn(NUM_ITEMS, generator=generator),
        "item_id": torch.arange(NUM_ITEMS),  # item 0 is unknown
    }


def make_rows(lengths: tuple[int, ...], graded: bool, generator: torch.Generator) -> Rows:
    """Draw rows; ten items for up to fifty rows, so items repeat."""
    shape = (len(lengths), max(lengths))
    mask = torch.arange(shape[1]) < torch.tensor(lengths)[:, None]
    value = torch.randn(shape, generator=generator)
    if not graded:
        value = (value > 0).float()
        value[:, 0] = 1.0
    return Rows(
        torch.randint(0, NUM_ITEMS, shape, generator=generator) * mask,
        torch.randn((*shape, NUM_STATISTICS), generator=generator) * mask[..., None],
        value * mask,
        mask,
    )


def make_batch(graded: bool, seed: int = 0) -> TaskBatch:
    generator = torch.Generator().manual_seed(seed)
    num_users = len(SUPPORT_LENGTHS)
    users = {
        "group": torch.randint(0, 4, (num_users,), generator=generator),
        "hobbies": torch.tensor([[0, 0, 0], [1, 0, 0], [2, 3, 0], [1, 2, 3], [3, 3, 0]]),
        "age": torch.randn(num_users, generator=generator),
    }
    support = Support(users, make_rows(SUPPORT_LENGTHS, graded, generator))
    return TaskBatch(support, make_rows(QUERY_LENGTHS, graded, generator))
