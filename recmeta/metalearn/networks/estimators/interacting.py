"""A preference estimator that normalises its layers and multiplies users with items.

The decision layers of `PreferenceNetwork`, with two options that no chain of linear layers has: the
layers' outputs may be normalised (Ba, Kiros, Hinton, 2016), and a product of projections of the
user and of the item may join the last layer's inputs, as in NeuMF (He et al., WWW 2017). All of
these parameters adapt to the user.

Legend: R rows, U distinct items, F embedded features, D item statistics, K factors.
"""

import math

import torch
import torch.nn.functional as F

from recmeta.metalearn.learner import Params
from recmeta.metalearn.networks.embedding import EmbeddingNetwork

USER_FACTORS, USER_FACTOR_BIAS, ITEM_FACTORS = (
    f"layer.0.{name}" for name in ("user_factors", "user_factor_bias", "item_factors")
)
"""Parameters of the product, which reads features and so adapts at the first layer's rates."""

EPSILON = 1e-5
"""Added to a row's variance, which is 0 if a layer has one output."""


class InteractingNetwork(EmbeddingNetwork):
    """The network, which adapts through `torch.func`."""

    @property
    def decision_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters that adapt, by name."""
        shapes = super().decision_shapes
        if self.config.layer_norm:
            for index, width in enumerate(self.config.hidden_dims):
                shapes[f"layer.{index}.gain"] = shapes[f"layer.{index}.shift"] = (width,)
        if self.config.num_factors:
            user_width, item_width, statistics_width = self.feature_widths
            shapes[USER_FACTORS] = (self.config.num_factors, user_width)
            shapes[USER_FACTOR_BIAS] = (self.config.num_factors,)
            shapes[ITEM_FACTORS] = (self.config.num_factors, item_width + statistics_width)
        return shapes

    def init_params(self, generator: torch.Generator) -> Params:
        """Return fresh parameters: those of every preference estimator, gains of 1, and projections
        whose products have about unit size."""
        params = super().init_params(generator)
        for name, shape in self.decision_shapes.items():
            if name.endswith((".gain", ".shift")):
                params[name] = torch.full(shape, float(name.endswith(".gain")))
            elif name == USER_FACTOR_BIAS:
                params[name] = torch.randn(shape, generator=generator)
            elif name in (USER_FACTORS, ITEM_FACTORS):
                scale = 1 / math.sqrt(max(shape[1], 1))
                params[name] = scale * torch.randn(shape, generator=generator)
        return params

    def last_inputs(
        self,
        params: Params,
        user_F: torch.Tensor,
        item_RF: torch.Tensor,
        statistics_RD: torch.Tensor,
    ) -> torch.Tensor:
        """Return the last layer's inputs for rows, (R, H) or (B, R, H)."""
        feature_RF = self.joined(user_F, item_RF, statistics_RD)
        x = feature_RF
        last = self.num_layers - 1
        for index in range(last):
            x = F.linear(x, params[f"layer.{index}.weight"], params[f"layer.{index}.bias"])
            if self.config.layer_norm:
                gain, shift = params[f"layer.{index}.gain"], params[f"layer.{index}.shift"]
                x = _normalised(x) * gain + shift
            x = torch.relu(x)
        inputs = [x]
        if self.config.wide and last > 0:
            inputs.append(feature_RF)
        if self.config.num_factors:
            user_K = F.linear(user_F, params[USER_FACTORS], params[USER_FACTOR_BIAS])
            of_item_RF = feature_RF[..., user_F.shape[-1] :]
            inputs.append(user_K[..., None, :] * F.linear(of_item_RF, params[ITEM_FACTORS]))
        return torch.cat(inputs, -1)


def _normalised(x_RF: torch.Tensor) -> torch.Tensor:
    """Return rows with mean 0 and variance 1, as `F.layer_norm` does.

    In plain operations: under `vmap`, the second derivative of `F.layer_norm` treats the rows'
    means and variances as constants, which is wrong (PyTorch 2.13).
    """
    centred_RF = x_RF - x_RF.mean(-1, keepdim=True)
    return centred_RF * (centred_RF.square().mean(-1, keepdim=True) + EPSILON).rsqrt()


NETWORK = InteractingNetwork
