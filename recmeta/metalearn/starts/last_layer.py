"""A start for meta-training: a network's last layer in closed form, for learners that adapt it.

The inputs of the last layer are fixed at the start: embeddings that a factorisation has filled, and
the hidden layers' random features of them. The weights that best predict all users' values from
these inputs are a ridge regression, which gradient steps would need epochs to find.

Legend: B users, R rows, F features, H inputs of the last layer, the constant among them.
"""

import torch
import torch.nn.functional as F

from recmeta.metalearn.learner import Params
from recmeta.metalearn.starts.beginning import Built
from recmeta.metalearn.tensors.batch import Rows
from recmeta.metalearn.tensors.encoding import Features
from recmeta.tasks.task_set import Tasks

USERS_AT_ONCE = 256
CONSTANT_RIDGE = 1e-6
"""The penalty of the bias, which is almost unpenalised."""


def last_layer_names(built: Built) -> tuple[str, str]:
    """Return the names of the last layer's weight and bias. Only a learner with the network has
    them among its parameters."""
    last = f"layer.{built.network.num_layers - 1}"
    return f"{last}.weight", f"{last}.bias"


def reads_linearly(built: Built, params: Params) -> bool:
    """Return whether a model has a network whose last layer can be fitted in closed form."""
    return built.network.config.is_linear and last_layer_names(built)[0] in params


def start_last_layer(built: Built, params: Params, tasks: Tasks, ridge: float) -> Params:
    """Return parameters whose last layer is the ridge regression of the tasks' values, in units of
    the model, on its inputs before any user has adapted. Other parameters are unchanged.

    Args:
        tasks: the users, whose support and query rows are the data.
        ridge: the penalty on the squared norm of the weights, relative to the sum of squared
            errors.
    """
    weight, bias = last_layer_names(built)
    width = params[weight].shape[1] + 1
    gram_HH = torch.zeros((width, width), dtype=torch.float64)
    moment_H = torch.zeros(width, dtype=torch.float64)
    with torch.no_grad():
        for some in tasks.batches(USERS_AT_ONCE):
            support = built.catalogue.support(some)
            for rows in (support.rows, built.catalogue.rows(some.query, some)):
                input_NH = _last_inputs(built, params, support.user, rows)
                gram_HH += (input_NH.T @ input_NH).cpu()
                value_N = rows.value_BR[rows.mask_BR].to(input_NH)
                moment_H += (input_NH.T @ value_N).cpu()
    ridge_H = torch.full((width,), ridge, dtype=torch.float64)
    ridge_H[-1] = CONSTANT_RIDGE
    found_H = torch.linalg.solve(gram_HH + ridge_H.diag(), moment_H)
    return {
        **params,
        weight: found_H[None, :-1].to(params[weight]),
        bias: found_H[-1:].to(params[bias]),
    }


def _last_inputs(built: Built, params: Params, user: Features, rows: Rows) -> torch.Tensor:
    """Return the last layer's inputs on all rows that are not padding, and a 1: (N, H), float64."""
    network, mask_BR = built.network, rows.mask_BR
    params = {name: p.to(mask_BR.device) for name, p in params.items()}
    user_BF = network.embed_users(params, user, len(mask_BR))
    parts = [
        user_BF[mask_BR.nonzero()[:, 0]],
        network.embedded_items(params, built.catalogue.features, rows.item_BR[mask_BR]),
    ]
    if network.config.use_statistics:
        parts.append(rows.statistics_BRD[mask_BR])
    feature_NF = hidden_NF = torch.cat(parts, 1)
    last = network.num_layers - 1
    for index in range(last):
        layer = f"layer.{index}"
        hidden_NF = F.linear(hidden_NF, params[f"{layer}.weight"], params[f"{layer}.bias"]).relu()
    read = [hidden_NF, feature_NF] if network.config.wide and last > 0 else [hidden_NF]
    return torch.cat([*read, torch.ones_like(hidden_NF[:, :1])], 1).double()
