"""Learners that adapt by a forward pass, with float64 parameters, and rows to read.

Legend: B users, R rows, H width, F numbers of a profile.
"""

import torch
from maml_tasks import ITEM_FIELDS, USER_FIELDS, item_features

from recmeta.metalearn.inner_loop.amortised import AmortisedConfig, AmortisedLearner, Known
from recmeta.metalearn.learner import Params
from recmeta.metalearn.learner_config import Setting
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.tasks.task_set import Objective

LENGTHS = (0, 1, 2, 7, 12)


def make(
    config: AmortisedConfig, objective: Objective = "rating"
) -> tuple[AmortisedLearner, Params]:
    """Return the learner, and parameters that are nowhere zero."""
    generator = torch.Generator().manual_seed(7)
    setting = Setting(
        user_fields=USER_FIELDS,
        item_fields=ITEM_FIELDS,
        item_features=item_features(generator),
        network_config=PreferenceConfig(embedding_dim=3, hidden_dims=(5,)),
        objective=objective,
        value_range=(-2.0, 2.0) if objective == "rating" else (0.0, 1.0),
    )
    learner = config.build(setting)
    assert isinstance(learner, AmortisedLearner)
    return learner, {
        name: p.double() + 0.2 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for name, p in learner.init_params(generator).items()
    }


def known_rows(learner: AmortisedLearner, lengths: tuple[int, ...] = LENGTHS) -> Known:
    """Draw tokens and surprises; what lies under the padding is as large as the rest."""
    generator = torch.Generator().manual_seed(len(lengths))
    shape = (len(lengths), max(lengths))

    def drawn(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    mask_BR = torch.arange(shape[1]) < torch.tensor(lengths)[:, None]
    user_BF = drawn(shape[0], learner.network.feature_widths[0])
    value_BR, expected_BR = drawn(*shape), drawn(*shape)
    surprise_BR = (value_BR - expected_BR) * mask_BR
    return Known(drawn(*shape, learner.width), expected_BR, user_BF, value_BR, surprise_BR, mask_BR)


def only(known: Known, user: int) -> Known:
    """Return one user's rows, without padding."""
    count = int(known.mask_BR[user].sum())

    def cut(x: torch.Tensor) -> torch.Tensor:
        return x[user : user + 1, :count]

    return Known(
        cut(known.token_BRH),
        cut(known.expected_BR),
        known.user_BF[user : user + 1],
        cut(known.value_BR),
        cut(known.surprise_BR),
        cut(known.mask_BR),
    )
