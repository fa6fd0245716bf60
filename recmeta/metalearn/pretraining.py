"""A start for meta-training: item embeddings that a matrix factorisation has found already.

Meta-training from noise must find the items' directions and how users move along them at once, from
few users. Starting where a factorisation ends leaves it the second task.

Legend: I items, F factors, E embedding width.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from recmeta.metalearn.encoding import ITEM_ID_FIELD
from recmeta.metalearn.learner import Params
from recmeta.metalearn.model import Model


def start_from_factors(
    model: Model, params: Params, bias_I: torch.Tensor, factors_IF: torch.Tensor
) -> Params:
    """Return the parameters with the items' own embeddings taken from a factorisation.

    An embedding's first number becomes the item's bias in units of the model, the next ones its
    factors (their leading principal components, where the embedding has no room for all). Where
    the last layer sees the embedding itself (`wide`), it starts by adding the bias, so that the
    untrained model predicts as an item mean does. An unknown item starts at zero. Without an
    embedding per item (`use_item_id`) nothing changes.

    Args:
        bias_I: in units of the value.
        factors_IF: in any scale.
    """
    name = f"embedding.item.{ITEM_ID_FIELD}"
    field = next((f for f in model.encoder.item_fields if f.name == ITEM_ID_FIELD), None)
    if field is None:
        return params
    number = pc.index_in(pa.array(field.values, pa.string()), model.catalogue.items.item_id)
    item = torch.from_numpy(np.asarray(number.to_numpy(), np.int64))
    table = params[name].clone()
    room = min(factors_IF.shape[1], table.shape[1] - 1)
    components = _leading(factors_IF, room)
    table[0] = 0.0
    table[1:, 0] = (bias_I[item] / model.encoder.value_scale).to(table)
    table[1:, 1 : 1 + room] = components[item].to(table)
    started = {**params, name: table}
    column = model.network.wide_column(ITEM_ID_FIELD)
    if column is not None:
        last = f"layer.{model.network.num_layers - 1}.weight"
        weight = params[last].clone()
        weight[0, column] = 1.0
        started[last] = weight
    return started


def _leading(factors_IF: torch.Tensor, room: int) -> torch.Tensor:
    """Return the factors, rotated to their leading principal components if they are too many."""
    if room == factors_IF.shape[1]:
        return factors_IF
    _, _, directions_FF = torch.linalg.svd(factors_IF, full_matrices=False)
    leading: torch.Tensor = factors_IF @ directions_FF[:room].T
    return leading
