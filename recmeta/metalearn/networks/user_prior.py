"""The prior mean of a user's weights in closed-form learners: a shared vector plus a vector for
every attribute of the profile.

Legend: B users, W weights of a user.
"""

from collections.abc import Sequence

import torch

from recmeta.metalearn.factors.content_prior import embed
from recmeta.metalearn.learner import Params
from recmeta.metalearn.tensors.encoding import Features, Field

PRIOR_MEAN = "prior.mean"
PRIOR_LOG_PRECISION = "prior.log_precision"


def user_name(field: Field) -> str:
    """Return the name of the parameter that is a field's part of the prior mean."""
    return f"{'embedding' if field.is_coded else 'prior'}.user.{field.name}"


def prior_mean(
    params: Params, fields: Sequence[Field], user: Features, num_users: int
) -> torch.Tensor:
    """Return (B, W) the prior mean of users, given their profiles."""
    prior_BW = params[PRIOR_MEAN].expand(num_users, -1)
    for field in fields:
        prior_BW = prior_BW + embed(params[user_name(field)], field, user[field.name])
    return prior_BW
