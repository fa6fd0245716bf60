"""Dense layers and attention as plain functions of named parameters.

Legend: B users, Q rows that attend, K rows that are attended to, H width, h heads.
"""

import math

import torch
import torch.nn.functional as F

from recmeta.metalearn.learner import Params


def init_dense(
    name: str, width_in: int, width_out: int, generator: torch.Generator, *, gain: float = 1.0
) -> Params:
    """Return a layer's fresh parameters: He-uniform weights times `gain`, a bias of 0."""
    bound = gain * math.sqrt(6 / max(width_in, 1))
    uniform = torch.rand((width_out, width_in), generator=generator)
    return {f"{name}.weight": (2 * uniform - 1) * bound, f"{name}.bias": torch.zeros(width_out)}


def dense(params: Params, name: str, x: torch.Tensor) -> torch.Tensor:
    """Return x Wᵀ + b of the layer of that name, (..., out)."""
    return F.linear(x, params[f"{name}.weight"], params[f"{name}.bias"])


def init_norm(name: str, width: int) -> Params:
    """Return the initial gain 1 and shift 0 of a layer normalisation."""
    return {f"{name}.gain": torch.ones(width), f"{name}.shift": torch.zeros(width)}


def norm(params: Params, name: str, x: torch.Tensor) -> torch.Tensor:
    """Return rows normalised over the last dimension (Ba, Kiros, Hinton, 2016)."""
    return F.layer_norm(x, x.shape[-1:], params[f"{name}.gain"], params[f"{name}.shift"])


def attention(
    query_BQH: torch.Tensor,
    key_BKH: torch.Tensor,
    value_BKH: torch.Tensor,
    allowed: torch.Tensor,
    num_heads: int = 1,
) -> torch.Tensor:
    """Return the output of multi-head attention, (B, Q, H): softmax(q kᵀ / √(H/h)) v, head by head
    (Vaswani et al., NeurIPS 2017, eq. 1).

    Args:
        allowed: bool, which rows may be attended to: (B, K), or (B, Q, K). Every row must be
            allowed at least one; other rows have no influence at all.
    """
    mask = allowed[:, None, None] if allowed.ndim == 2 else allowed[:, None]

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:2], num_heads, x.shape[2] // num_heads).transpose(1, 2)

    read = F.scaled_dot_product_attention(
        heads(query_BQH), heads(key_BKH), heads(value_BKH), attn_mask=mask
    )
    together: torch.Tensor = read.transpose(1, 2).flatten(2)
    return together
