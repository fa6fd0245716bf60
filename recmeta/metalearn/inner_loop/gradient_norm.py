"""How far a user's support pulls at the weights, before any step is taken.

Legend: B users, S support rows, F embedded features, D item statistics.
"""

import torch
from torch.func import grad, vmap

from recmeta.metalearn.inner_loop.objectives import loss_of
from recmeta.metalearn.inner_loop.steps import InnerSteps
from recmeta.metalearn.learner import Params
from recmeta.metalearn.networks.network import EmbeddedItems, Network, layer_of
from recmeta.metalearn.tensors.batch import Rows


def gradient_norm(
    network: Network,
    steps: InnerSteps,
    params: Params,
    user_BF: torch.Tensor,
    items: EmbeddedItems,
    rows: Rows,
    start: Params,
) -> torch.Tensor:
    """Return (B,) the Frobenius norm of the gradient of the plain support loss with respect to the
    layers that adapt.

    Args:
        user_BF: the users' embedded features.
        items: of the rows, (B, S, ·).
        rows: the support.
        start: the initial weights (B, ...) of users, where these differ between users.
    """
    layers = {name: p for name, p in params.items() if layer_of(name) is not None}
    adapted = {
        name: start.get(name, layers[name].expand(len(user_BF), *layers[name].shape))
        for name in steps.adapted(layers)
    }

    def loss(
        weights: Params,
        user_F: torch.Tensor,
        item_SF: torch.Tensor,
        past_SD: torch.Tensor,
        value_S: torch.Tensor,
        mask_S: torch.Tensor,
    ) -> torch.Tensor:
        output_S = network.forward({**layers, **weights}, user_F, item_SF, past_SD)
        return loss_of(steps.objective)(output_S[None], value_S[None], mask_S[None])[0]

    def norm(weights: Params, *one_user: torch.Tensor) -> torch.Tensor:
        squares = [g.square().sum() for g in grad(loss)(weights, *one_user).values()]
        return torch.stack(squares).sum().sqrt()

    past_BSD = rows.statistics_BRD.to(user_BF.dtype)
    found_B: torch.Tensor = vmap(norm)(
        adapted, user_BF, items.tables[0], past_BSD, rows.value_BR, rows.mask_BR
    )
    return found_B
