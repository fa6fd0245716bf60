"""The interacting estimator says what its papers say."""

import pytest
import torch
from maml_tasks import ITEM_FIELDS, USER_FIELDS

from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.networks.estimators.interacting import InteractingNetwork
from recmeta.metalearn.networks.estimators.preference import PreferenceNetwork


def test_the_output_is_that_of_layer_norms_and_a_product() -> None:
    config = PreferenceConfig(embedding_dim=3, hidden_dims=(6, 5), layer_norm=True, num_factors=4)
    network = InteractingNetwork(config, USER_FIELDS, ITEM_FIELDS, graded=True)
    generator = torch.Generator().manual_seed(0)
    params = {n: p + 0.1 for n, p in network.init_params(generator).items()}
    user_width, item_width, statistics_width = network.feature_widths
    user_F = torch.randn(user_width, generator=generator)
    item_RF = torch.randn((7, item_width), generator=generator)
    past_RD = torch.randn((7, statistics_width), generator=generator)
    about_RF = torch.cat([item_RF, past_RD], 1)
    feature_RF = torch.cat([user_F.expand(7, -1), about_RF], 1)
    x = feature_RF
    for index, width in enumerate(config.hidden_dims):
        norm = torch.nn.LayerNorm(width)
        own = {"weight": params[f"layer.{index}.gain"], "bias": params[f"layer.{index}.shift"]}
        z = x @ params[f"layer.{index}.weight"].T + params[f"layer.{index}.bias"]
        x = torch.func.functional_call(norm, own, (z,)).relu()
    user_K = params["layer.0.user_factors"] @ user_F + params["layer.0.user_factor_bias"]
    product_RK = user_K * (about_RF @ params["layer.0.item_factors"].T)
    last = torch.cat([x, feature_RF, product_RK], 1)
    expected = last @ params["layer.2.weight"][0] + params["layer.2.bias"]
    torch.testing.assert_close(network.forward(params, user_F, item_RF, past_RD), expected)


@pytest.mark.parametrize("options", [{"layer_norm": True}, {"num_factors": 3}])
def test_parameters_have_the_shapes_that_it_tells(options: dict[str, int]) -> None:
    config = PreferenceConfig(embedding_dim=3, hidden_dims=(6,), **options)
    network = InteractingNetwork(config, USER_FIELDS, ITEM_FIELDS, graded=True)
    params = network.init_params(torch.Generator().manual_seed(0))
    adapting = {name: tuple(p.shape) for name, p in params.items() if name.startswith("layer.")}
    assert adapting == network.decision_shapes


def test_the_linear_estimator_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="InteractingNetwork"):
        PreferenceNetwork(PreferenceConfig(layer_norm=True), USER_FIELDS, ITEM_FIELDS, graded=True)


def test_negative_factors_are_refused() -> None:
    with pytest.raises(ValueError, match="num_factors is -1"):
        PreferenceConfig(num_factors=-1)
