"""A start for meta-training on implicit feedback: weighted matrix factorisation.

Legend: I items, F factors, K folds, U users.
"""

import math

import numpy as np
import torch

from recmeta.metalearn.algorithms.closed_form.weighted_ridge import (
    FACTORS,
    IDENTITY,
    INTERCEPT,
    LOG_CONFIDENCE,
    PRIOR_LOG_PRECISION,
    PRIOR_MEAN,
    WeightedRidge,
    user_name,
)
from recmeta.metalearn.factors.content_prior import ContentConfig, ContentPrior, ContentRegression
from recmeta.metalearn.factors.weighted_als import (
    WeightedALSConfig,
    fold_in,
    left_out_factors,
)
from recmeta.metalearn.learner import Params
from recmeta.metalearn.model import Model
from recmeta.metalearn.networks.item_vectors import content_name
from recmeta.metalearn.starts.pretraining import known_items, start_from_factors
from recmeta.metalearn.tensors.encoding import ITEM_ID_FIELD
from recmeta.tasks.task_set import Ragged

NUM_FOLDS = 5
CONTENT_SHRINKAGE = 5.0
"""An item's vector counts, when content is fitted, as its users over its users plus these."""


def start_weighted_ridge(
    model: Model,
    params: Params,
    rows: Ragged,
    item_IF: torch.Tensor,
    config: WeightedALSConfig,
    seed: int,
) -> Params:
    """Return parameters that score as the factorisation does with a new user folded in, and give
    the model's learner the vectors to train by.

    A new item begins with what its content says, a user without support with the training users'
    mean.

    Args:
        rows: per training user, what they took.
        item_IF: as `factorise_weighted` found them with this configuration.
        seed: of the content regression's folds.
    """
    learner = model.learner
    assert isinstance(learner, WeightedRidge)
    ridge = config.regularisation * config.fold_in_ratio
    width = item_IF.shape[1]
    new_IF = torch.zeros_like(item_IF)
    started = dict(params)
    started[INTERCEPT] = torch.zeros(width)
    started[PRIOR_MEAN] = fold_in(rows, item_IF, config, ridge).mean(0)
    started[PRIOR_LOG_PRECISION] = torch.full((width,), math.log(ridge))
    started[LOG_CONFIDENCE] = torch.tensor(math.log(config.confidence - 1))
    for field in learner.user_fields:
        started[user_name(field)] = torch.zeros((field.num_rows, width))
    if learner.content_fields:  # without any, a new item is nowhere
        content = _content(model, item_IF, rows, seed)
        new_IF = content.held_out_IC.float()
        started[INTERCEPT] = content.intercept_C.float()
        for field in learner.content_fields:
            started[content_name(field)] = content.tables[field.name].float()
    if not learner.num_ids:
        return started
    known = known_items(model)
    assert known is not None, "a field of item ids knows its items"

    def by_code(table_IF: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(table_IF[:1]), table_IF[known]])

    started[FACTORS] = by_code(item_IF)
    started[IDENTITY] = torch.zeros((len(known) + 1, width))
    left_out = [
        by_code(torch.where(one_IF.any(1, keepdim=True), one_IF, new_IF))
        for one_IF in left_out_factors(rows, item_IF, config, NUM_FOLDS)
    ]
    learner.left_out_KIF = torch.stack(left_out).to(model.device)
    return started


def start_network(model: Model, params: Params, rows: Ragged, item_IF: torch.Tensor) -> Params:
    """Return parameters of a network whose items begin with what the factorisation found.

    An item's own embedding begins with the logarithm of 1 + its users, standardised, which the last
    layer adds where it is `wide`, and goes on with the vector's leading principal components, as
    many as there is room for. Each has mean square 1 over the items that anybody took. Without an
    embedding per item nothing changes.

    Args:
        rows: per training user, what they took.
        item_IF: as `factorise_weighted` found them.
    """
    name = f"embedding.item.{ITEM_ID_FIELD}"
    if name not in params:
        return params
    count_I = torch.from_numpy(np.bincount(rows.item, minlength=len(item_IF)))
    is_met_I = count_I > 0
    popularity_I = count_I.log1p()
    popularity_I = is_met_I * (popularity_I - popularity_I[is_met_I].mean())
    popularity_I /= popularity_I[is_met_I].square().mean().sqrt().clamp(min=1e-6)
    left, _, _ = torch.linalg.svd(item_IF[is_met_I], full_matrices=False)
    room = min(params[name].shape[1] - 1, left.shape[1])
    leading_IF = torch.zeros((len(item_IF), room))
    leading_IF[is_met_I] = left[:, :room] * len(left) ** 0.5
    return start_from_factors(model, params, popularity_I, leading_IF)


def _content(model: Model, item_IF: torch.Tensor, rows: Ragged, seed: int) -> ContentPrior:
    """Return the regression of the items' factors on their content."""
    catalogue = model.catalogue
    _, version_I = np.unique(catalogue.items.item, return_index=True)
    first = torch.from_numpy(version_I)
    features = {name: t.cpu()[first] for name, t in catalogue.features.items()}
    regression = ContentRegression(
        model.encoder.item_fields, features, catalogue.num_items, ContentConfig(), seed
    )
    count_I1 = torch.from_numpy(np.bincount(rows.item, minlength=len(item_IF)))[:, None].double()
    weight_I1 = count_I1 / (count_I1 + CONTENT_SHRINKAGE)
    return regression.fit(item_IF.double(), weight_I1.expand_as(item_IF))
