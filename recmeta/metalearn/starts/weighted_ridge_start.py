"""A start for the weighted ridge learner: a weighted factorisation of implicit feedback, fitted to
all training users, and again without those of each fold.

Legend: I items, F factors, K folds of training users.
"""

import math

import torch

from recmeta.metalearn.factors.weighted_als import WeightedALSConfig, fold_in, left_out_factors
from recmeta.metalearn.learner import Params
from recmeta.metalearn.networks.item_vectors import content_name
from recmeta.metalearn.networks.user_prior import PRIOR_LOG_PRECISION, PRIOR_MEAN, user_name
from recmeta.metalearn.starts.beginning import Built, Start
from recmeta.metalearn.starts.implicit_start import fitted_content
from recmeta.metalearn.starts.pretraining import known_items
from recmeta.metalearn.tensors.encoding import ITEM_ID_FIELD
from recmeta.tasks.task_set import Ragged

INTERCEPT = "content.intercept"
FACTORS = f"factors.item.{ITEM_ID_FIELD}"
"""A known item's factors as the factorisation found them; they are not trained."""
IDENTITY = f"embedding.item.{ITEM_ID_FIELD}"
"""What meta-training adds to a known item's factors."""
LOG_CONFIDENCE = "confidence.log"
NUM_FOLDS = 5


def start_from_factorisation(
    built: Built,
    params: Params,
    rows: Ragged,
    item_IF: torch.Tensor,
    config: WeightedALSConfig,
    seed: int,
) -> Start:
    """Return parameters that score as the factorisation does with a new user folded in, and the
    left-out vectors to train with.

    A new item begins with the regression on its content, and a user without support with the mean
    of the training users.

    Args:
        rows: per training user, what they took.
        item_IF: as `factorise_weighted` found them with this configuration.
        seed: of the content regression's folds, and of a draw of very many users.
    """
    user_fields, item_fields = built.encoder.user_fields, built.encoder.item_fields
    content_fields = [f for f in item_fields if f.name != ITEM_ID_FIELD]
    ridge = config.regularisation * config.fold_in_ratio
    width = item_IF.shape[1]
    new_IF = torch.zeros_like(item_IF)
    started = dict(params)
    started[INTERCEPT] = torch.zeros(width)
    started[PRIOR_MEAN] = fold_in(rows, item_IF, config, ridge).mean(0)
    started[PRIOR_LOG_PRECISION] = torch.full((width,), math.log(ridge))
    started[LOG_CONFIDENCE] = torch.tensor(math.log(config.confidence - 1))
    for field in user_fields:
        started[user_name(field)] = torch.zeros((field.num_rows, width))
    if content_fields:  # without content, a new item has the vector 0
        content = fitted_content(built, item_IF, rows, seed)
        new_IF = content.held_out_IC.float()
        started[INTERCEPT] = content.intercept_C.float()
        for field in content_fields:
            started[content_name(field)] = content.tables[field.name].float()
    known = known_items(built)
    if known is None:
        return Start(started)

    def by_code(table_IF: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(table_IF[:1]), table_IF[known]])

    started[FACTORS] = by_code(item_IF)
    started[IDENTITY] = torch.zeros((len(known) + 1, width))
    left_out = [
        by_code(torch.where(one_IF.any(1, keepdim=True), one_IF, new_IF))
        for one_IF in left_out_factors(rows, item_IF, config, NUM_FOLDS, seed)
    ]
    return Start(started, torch.stack(left_out))
