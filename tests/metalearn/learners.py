"""Learners of every kind, and users of every length, for the tests of adaptation."""

import dataclasses

import torch
from maml_tasks import ITEM_FIELDS, USER_FIELDS, item_features, make_rows

from recmeta.metalearn.algorithms.optimisation_based.maml import MAML, MAMLConfig
from recmeta.metalearn.learner import Params
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.networks.estimators.interacting import InteractingNetwork
from recmeta.metalearn.networks.estimators.preference import PreferenceNetwork
from recmeta.metalearn.tensors.batch import Support, TaskBatch

SUPPORT = (0, 1, 2, 500)
"""Rows; two are one item twice, and five hundred are of ten items."""
QUERY = (3, 1, 12, 1)
LINEAR = PreferenceConfig(embedding_dim=3, hidden_dims=(6, 5), start_from_item_mean=True)
NETWORKS = {
    "linear": LINEAR,
    "not wide": dataclasses.replace(LINEAR, wide=False),
    "one layer": dataclasses.replace(LINEAR, hidden_dims=()),
    "normalised": dataclasses.replace(LINEAR, layer_norm=True),
    "factors": dataclasses.replace(LINEAR, num_factors=4),
    "both, one layer": dataclasses.replace(LINEAR, layer_norm=True, num_factors=2, hidden_dims=()),
    "both, not wide": dataclasses.replace(LINEAR, layer_norm=True, num_factors=2, wide=False),
}
CONFIGS = {
    "three steps": MAMLConfig(num_steps=3, inner_learning_rate=0.05),
    "first order": MAMLConfig(num_steps=2, second_order=False),
    "fixed rates": MAMLConfig(num_steps=2, learn_rates=False, support_prior=0.0),
    "last layer": MAMLConfig(num_steps=2, adapt_layers="last"),
    "no steps": MAMLConfig(num_steps=0),
}


def make_learner(config: MAMLConfig, network: PreferenceConfig) -> tuple[MAML, Params]:
    """Return the learner and float64 parameters, off the special points of fresh ones."""
    generator = torch.Generator().manual_seed(7)
    kind = PreferenceNetwork if network.is_linear else InteractingNetwork
    shapes = kind(network, USER_FIELDS, ITEM_FIELDS, graded=True)
    learner = MAML(config, shapes, item_features(generator), "rating")
    fresh = learner.init_params(generator)
    return learner, {
        name: p.double() + 0.2 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for name, p in fresh.items()
    }


def outcome(learner: MAML, params: Params, batch: TaskBatch) -> Params:
    """Return the gradients of a batch by name, and as "loss" its loss."""
    gradients, metrics = learner.meta_gradient(params, batch, torch.Generator())
    return {"loss": torch.tensor(metrics["loss"], dtype=torch.float64), **gradients}


def make_batch(seed: int = 0) -> TaskBatch:
    generator = torch.Generator().manual_seed(seed)
    num_users = len(SUPPORT)
    users = {
        "group": torch.randint(0, 4, (num_users,), generator=generator),
        "hobbies": torch.randint(0, 4, (num_users, 3), generator=generator),
        "age": torch.randn(num_users, generator=generator),
    }
    support = make_rows(SUPPORT, True, generator)
    support.item_BR[2, :2] = 4
    return TaskBatch(Support(users, support), make_rows(QUERY, True, generator))
