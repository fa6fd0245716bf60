"""A start for meta-training on implicit feedback: weighted matrix factorisation.

Legend: I items, F factors, K folds, U users.
"""

import torch

from recmeta.metalearn.factors.content_prior import ContentPrior
from recmeta.metalearn.learner import Params
from recmeta.metalearn.numerics.threads import one_thread
from recmeta.metalearn.starts.beginning import Built
from recmeta.metalearn.starts.pretraining import content_regression, start_from_factors
from recmeta.metalearn.tensors.encoding import ITEM_ID_FIELD
from recmeta.tasks import scratch
from recmeta.tasks.task_set import Ragged

CONTENT_SHRINKAGE = 5.0
"""The weight of an item's vector in the content regression is n / (n + this), where n is its number
of users."""


def start_from_weighted_factors(
    built: Built, params: Params, rows: Ragged, item_IF: torch.Tensor
) -> Params:
    """Return parameters of a network whose items begin with the factorisation's vectors.

    The first number of an item's own embedding is the logarithm of 1 + its number of users,
    standardised, which a `wide` last layer adds to the output. The others are the vector's leading
    principal components, as many as fit. Each has mean square 1 over the items that have users.
    Without an embedding per item nothing changes.

    Args:
        rows: per training user, the items that they took.
        item_IF: as `factorise_weighted` found them.
    """
    name = f"embedding.item.{ITEM_ID_FIELD}"
    if name not in params:
        return params
    count_I = torch.from_numpy(scratch.counts(rows.item, len(item_IF)))
    is_met_I = count_I > 0
    popularity_I = count_I.log1p()
    popularity_I = is_met_I * (popularity_I - popularity_I[is_met_I].mean())
    popularity_I /= popularity_I[is_met_I].square().mean().sqrt().clamp(min=1e-6)
    # One thread, because the number of threads would decide the last bits.
    with one_thread(True):
        left, _, _ = torch.linalg.svd(item_IF[is_met_I], full_matrices=False)
    room = min(params[name].shape[1] - 1, left.shape[1])
    leading_IF = torch.zeros((len(item_IF), room))
    leading_IF[is_met_I] = left[:, :room] * len(left) ** 0.5
    return start_from_factors(built, params, popularity_I, leading_IF)


def fitted_content(built: Built, item_IF: torch.Tensor, rows: Ragged, seed: int) -> ContentPrior:
    """Return the regression of the items' factors on their content.

    Args:
        rows: per training user, the items that they took.
        seed: draws the regression's folds.
    """
    count_I1 = torch.from_numpy(scratch.counts(rows.item, len(item_IF)))[:, None].double()
    weight_I1 = count_I1 / (count_I1 + CONTENT_SHRINKAGE)
    regression = content_regression(built, seed)
    with one_thread(True):  # see `CONTENT_SHRINKAGE`
        return regression.fit(item_IF.double(), weight_I1.expand_as(item_IF))
