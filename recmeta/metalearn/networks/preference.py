"""MeLU's preference estimator (Lee et al., KDD 2019, figure 2) over declared features.

Embeddings of a user's and an item's features, shared by all users, are joined and pass through
decision layers, which adapt to each user. Two additions, both optional: what was known of the
item's past joins the features, and the output can start from the item's shrunk mean.

Legend: B users, R rows, U distinct items of a batch, F embedded features, D item statistics.
"""

import dataclasses
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from recmeta.errors import UserError
from recmeta.metalearn.adaptation import LayerState, Parts, linear
from recmeta.metalearn.batch import NUM_STATISTICS, Rows
from recmeta.metalearn.encoding import Features, Field
from recmeta.metalearn.learner import Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreferenceConfig:
    """Shape of the preference estimator."""

    embedding_dim: int = 32
    """Width of each categorical or multi-valued field's embedding."""
    hidden_dims: tuple[int, ...] = (64, 64)
    """Widths of the decision layers before the last, which has one output."""
    wide: bool = True
    """Whether the last layer also sees the embedded features themselves, so that adapting it fits a
    linear model of the user on top of the deep one (Cheng et al., Wide & Deep, DLRS 2016)."""
    use_statistics: bool = True
    """Whether the item's past (mean value, popularity) joins its features."""
    start_from_item_mean: bool = False
    """Whether the output is added to the item's shrunk mean. Without effect on implicit
    feedback, where there is no mean to start from."""

    def __post_init__(self) -> None:
        if self.embedding_dim < 1 or any(width < 1 for width in self.hidden_dims):
            raise ValueError(
                f"embedding_dim {self.embedding_dim} and hidden_dims {self.hidden_dims} must be "
                "positive."
            )


class PreferenceNetwork:
    """Pure functions of the parameters; holds only shapes."""

    def __init__(
        self,
        config: PreferenceConfig,
        user_fields: Sequence[Field],
        item_fields: Sequence[Field],
        *,
        graded: bool,
    ) -> None:
        self.config = config
        self.starts_from_item_mean = config.start_from_item_mean and graded
        self.user_fields = tuple(user_fields)
        self.item_fields = tuple(item_fields)
        user_width = sum(self._width(f) for f in self.user_fields)
        item_width = sum(self._width(f) for f in self.item_fields)
        item_width += NUM_STATISTICS if config.use_statistics else 0
        if item_width == 0:
            raise UserError(
                "the model reads nothing of an item: let it have its id (features.use_item_id), "
                "its past (network.use_statistics) or some attribute (features.item_features)."
            )
        widths = [user_width + item_width, *config.hidden_dims]
        outputs = [*config.hidden_dims, 1]
        if config.wide and config.hidden_dims:
            widths[-1] += widths[0]
        self.layer_shapes = tuple(zip(outputs, widths, strict=True))

    @property
    def num_layers(self) -> int:
        """Decision layers."""
        return len(self.layer_shapes)

    def wide_column(self, item_field: str) -> int | None:
        """Return where an item field's embedding begins among the last layer's inputs.

        None where the last layer does not see it: it is absent, or the network is not `wide`.
        """
        names = [f.name for f in self.item_fields]
        if item_field not in names or not (self.config.wide and self.config.hidden_dims):
            return None
        before = sum(self._width(f) for f in self.user_fields)
        before += sum(self._width(f) for f in self.item_fields[: names.index(item_field)])
        return self.config.hidden_dims[-1] + before

    def init_params(self, generator: torch.Generator) -> Params:
        """Return fresh parameters: embeddings N(0, 0.1²), He-uniform layers, a last layer near
        0."""
        params: Params = {}
        for side, fields in (("user", self.user_fields), ("item", self.item_fields)):
            for field in fields:
                if field.kind != "numeric":
                    shape = (field.num_codes, self.config.embedding_dim)
                    params[f"embedding.{side}.{field.name}"] = 0.1 * torch.randn(
                        shape, generator=generator
                    )
        for index, (fan_out, fan_in) in enumerate(self.layer_shapes):
            bound = math.sqrt(6 / max(fan_in, 1))
            if index == self.num_layers - 1:
                bound *= 0.1
            uniform = torch.rand((fan_out, fan_in), generator=generator)
            params[f"layer.{index}.weight"] = (2 * uniform - 1) * bound
            params[f"layer.{index}.bias"] = torch.zeros(fan_out)
        return params

    def embed_users(self, params: Params, user: Features, num_users: int) -> torch.Tensor:
        """Return the embedded features of users, (B, F)."""
        parts = [_embed(params, "user", field, user[field.name]) for field in self.user_fields]
        if parts:
            return torch.cat(parts, -1)
        return params["layer.0.bias"].new_zeros((num_users, 0))

    def embed_items(self, params: Params, features: Features, rows: Rows) -> torch.Tensor:
        """Return the embedded features of rows, (B, R, F); each distinct item is embedded once."""
        parts = []
        if self.item_fields:
            distinct_U, place_BR = torch.unique(rows.item_BR, return_inverse=True)
            embedded_UF = torch.cat(
                [_embed(params, "item", f, features[f.name][distinct_U]) for f in self.item_fields],
                -1,
            )
            parts.append(F.embedding(place_BR, embedded_UF))
        if self.config.use_statistics:
            parts.append(rows.statistics_BRD.to(params["layer.0.bias"].dtype))
        return torch.cat(parts, -1)

    def decide(
        self,
        params: Params,
        user_BF: torch.Tensor,
        item_BRF: torch.Tensor,
        statistics_BRD: torch.Tensor,
        states: Sequence[LayerState | None],
    ) -> tuple[torch.Tensor, list[Parts], list[torch.Tensor]]:
        """Run the decision layers as each user has adapted them.

        Args:
            item_BRF, statistics_BRD: with 1 for B where all users are asked about the same items.

        Returns:
            The outputs (B, R), and per layer its inputs and outputs (B, R, o).
        """
        features: Parts = (user_BF[:, None], item_BRF)
        parts = features
        last = self.num_layers - 1
        inputs, outputs = [], []
        for index in range(self.num_layers):
            if index == last > 0 and self.config.wide:
                parts = (*parts, *features)
            inputs.append(parts)
            z = linear(
                parts,
                params[f"layer.{index}.weight"],
                params[f"layer.{index}.bias"],
                states[index],
            )
            if torch.is_grad_enabled() and not z.requires_grad:
                z.requires_grad_()  # adaptation asks for the gradient here, whatever lies below
            outputs.append(z)
            parts = (torch.relu(z),)
        output_BR = outputs[-1][..., 0]
        if self.starts_from_item_mean:
            output_BR = output_BR + statistics_BRD[..., 0]
        return output_BR, inputs, outputs

    def _width(self, field: Field) -> int:
        return 1 if field.kind == "numeric" else self.config.embedding_dim


def _embed(params: Params, side: str, field: Field, values: torch.Tensor) -> torch.Tensor:
    """Return (N, F) for one field: a number as it is, a code's embedding, the mean of a list's."""
    if field.kind == "numeric":
        return values[:, None].to(params["layer.0.bias"].dtype)
    table = params[f"embedding.{side}.{field.name}"]
    if field.kind == "categorical":
        return F.embedding(values, table)
    present_NW = (values > 0).to(table.dtype)
    total_NF = (F.embedding(values, table) * present_NW[..., None]).sum(1)
    return total_NF / present_NW.sum(1, keepdim=True).clamp(min=1)
