"""The transformer's attention against PyTorch's own, and its special points."""

from typing import Any

import pytest
import torch
from amortised_tasks import LENGTHS, known_rows, make, only

from recmeta.metalearn.algorithms.model_based.transformer_np import TransformerNPConfig
from recmeta.metalearn.learner import Params
from recmeta.metalearn.networks.dense import attention

CONFIG = TransformerNPConfig(width=8, num_heads=2, num_layers=2)


def reference_layers(params: Params) -> list[torch.nn.TransformerEncoderLayer]:
    """Return PyTorch's layers with the same weights."""
    layers = []
    for n in range(CONFIG.num_layers):
        layer = torch.nn.TransformerEncoderLayer(
            CONFIG.width,
            CONFIG.num_heads,
            2 * CONFIG.width,
            dropout=0.0,
            batch_first=True,
            norm_first=True,
            dtype=torch.float64,
        )
        attend, feed = f"attend.{n}", f"feed.{n}"
        parts = [f"{attend}.{part}" for part in ("query", "key", "value")]
        weights = {
            "self_attn.in_proj_weight": torch.cat([params[f"{p}.weight"] for p in parts]),
            "self_attn.in_proj_bias": torch.cat([params[f"{p}.bias"] for p in parts]),
            "self_attn.out_proj.weight": params[f"{attend}.out.weight"],
            "self_attn.out_proj.bias": params[f"{attend}.out.bias"],
            "norm1.weight": params[f"{attend}.gain"],
            "norm1.bias": params[f"{attend}.shift"],
            "linear1.weight": params[f"{feed}.0.weight"],
            "linear1.bias": params[f"{feed}.0.bias"],
            "linear2.weight": params[f"{feed}.1.weight"],
            "linear2.bias": params[f"{feed}.1.bias"],
            "norm2.weight": params[f"{feed}.gain"],
            "norm2.bias": params[f"{feed}.shift"],
        }
        layer.load_state_dict(weights)
        layers.append(layer.train())  # the fast path for inference reads no mask per pair
    return layers


@pytest.mark.parametrize("user", range(len(LENGTHS)))
@torch.no_grad()
def test_it_is_a_masked_transformer_over_profile_support_and_target(user: int) -> None:
    """As in the paper's figure: one sequence, in which nobody reads the targets."""
    learner, params = make(CONFIG)
    known = known_rows(learner)
    asked = known_rows(learner, (4,) * len(LENGTHS))
    shift_BR, log_spread_BR = learner.decode(params, learner.read(params, known), asked)

    mine = only(known, user)
    num_known = 1 + mine.mask_BR.shape[1]

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ params[f"{name}.weight"].T + params[f"{name}.bias"]

    told = torch.stack([mine.surprise_BR, torch.ones_like(mine.surprise_BR)], -1)
    not_told = torch.zeros((1, 4, 2), dtype=torch.float64)
    x = torch.cat(
        [
            linear("profile", mine.user_BF)[:, None],
            linear("row", torch.cat([mine.token_BRH, told], -1)),
            linear("row", torch.cat([asked.token_BRH[user : user + 1], not_told], -1)),
        ],
        1,
    )
    hidden_from = torch.zeros((x.shape[1], x.shape[1]), dtype=torch.bool)
    hidden_from[:, num_known:] = True
    for layer in reference_layers(params):
        x = layer(x, src_mask=hidden_from)
    gain, shift = params["head.gain"], params["head.shift"]
    out = linear("head", torch.nn.functional.layer_norm(x, (CONFIG.width,), gain, shift))
    torch.testing.assert_close(shift_BR[user], out[0, num_known:, 0])
    torch.testing.assert_close(log_spread_BR[user], out[0, num_known:, 1])


def test_one_row_to_read_is_read_whatever_is_asked() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn((2, 3, 4), generator=generator) for _ in range(3))
    allowed = torch.tensor([[False, True, False], [False, False, True]])
    read = attention(query, key, value, allowed, num_heads=2)
    torch.testing.assert_close(read[0], value[0, 1].expand(3, 4))
    torch.testing.assert_close(read[1], value[1, 2].expand(3, 4))


@pytest.mark.parametrize("change", [{"num_heads": 3}, {"num_layers": 0}, {"width": 0}])
def test_a_shape_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        TransformerNPConfig(**{"width": 8, "num_heads": 2, **change})
