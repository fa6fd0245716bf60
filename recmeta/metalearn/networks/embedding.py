"""The base of all preference estimators: embeddings of features, and the shapes of the layers.

Legend: B users, R rows, U distinct items of a batch, W codes of a list, F embedded features,
D item statistics.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from recmeta.errors import UserError
from recmeta.metalearn.learner import Params
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.networks.network import EmbeddedItems
from recmeta.metalearn.numerics.sparse_gradients import is_large
from recmeta.metalearn.tensors.batch import NUM_STATISTICS
from recmeta.metalearn.tensors.encoding import ITEM_ID_FIELD, Field
from recmeta.metalearn.tensors.encoding import Features as Encoded

SORT_FROM = 16
"""The number of items per row of a batch from which sorting the rows is cheaper than marking every
item."""


class EmbeddingNetwork:
    """The base of all networks, as pure functions of the parameters. The object holds only shapes.

    A network defines in `last_inputs` what its hidden layers compute; the inner loops, the starts
    and the learners need nothing more. It is built with the four arguments below, and has its own
    parameters in `decision_shapes` and `init_params`.
    """

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
        user_width, item_width, statistics_width = self.feature_widths
        if item_width + statistics_width == 0:
            raise UserError(
                "the model reads nothing of an item: let it have its id (features.use_item_id), "
                "its past (network.use_statistics) or some attribute (features.item_features)."
            )
        widths = [user_width + item_width + statistics_width, *config.hidden_dims]
        outputs = [*config.hidden_dims, 1]
        if config.wide and config.hidden_dims:
            widths[-1] += widths[0]
        widths[-1] += config.num_factors
        self.layer_shapes = tuple(zip(outputs, widths, strict=True))

    @property
    def num_layers(self) -> int:
        """Decision layers."""
        return len(self.layer_shapes)

    @property
    def decision_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters that adapt, by name."""
        shapes: dict[str, tuple[int, ...]] = {}
        for index, (fan_out, fan_in) in enumerate(self.layer_shapes):
            shapes[f"layer.{index}.weight"] = (fan_out, fan_in)
            shapes[f"layer.{index}.bias"] = (fan_out,)
        return shapes

    @property
    def feature_widths(self) -> tuple[int, int, int]:
        """The numbers of features that the layers read: of the user, of the item, of the item's
        past."""
        return (
            sum(self._width(f) for f in self.user_fields),
            sum(self._width(f) for f in self.item_fields),
            NUM_STATISTICS if self.config.use_statistics else 0,
        )

    def input_columns(self) -> dict[tuple[str, str], slice]:
        """Return the columns of each field among a layer's inputs, by (side, name)."""
        columns, first = {}, 0
        for side, fields in (("user", self.user_fields), ("item", self.item_fields)):
            for field in fields:
                columns[side, field.name] = slice(first, first + self._width(field))
                first += self._width(field)
        return columns

    def wide_column(self, item_field: str) -> int | None:
        """Return the column at which an item field's embedding begins among the last layer's
        inputs.

        It is None if the last layer does not read the embedding: the field is absent, or the
        network is not `wide`.
        """
        columns = self.input_columns().get(("item", item_field))
        if columns is None or not (self.config.wide and self.config.hidden_dims):
            return None
        return self.config.hidden_dims[-1] + int(columns.start)

    def init_params(self, generator: torch.Generator) -> Params:
        """Return fresh parameters: embeddings N(0, 0.1²), He-uniform layers, a last layer near
        0."""
        params: Params = {}
        for side, fields in (("user", self.user_fields), ("item", self.item_fields)):
            for field in fields:
                if field.is_coded:
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

    def embed_users(self, params: Params, user: Encoded, num_users: int) -> torch.Tensor:
        """Return the embedded features of users, (B, F)."""
        parts = [_embed(params, "user", field, user[field.name]) for field in self.user_fields]
        if parts:
            return torch.cat(parts, -1)
        return params["layer.0.bias"].new_zeros((num_users, 0))

    def embed_items(self, params: Params, features: Encoded, item_U: torch.Tensor) -> EmbeddedItems:
        """Return items with the work done that no user changes. Call it once for each distinct
        item."""
        return EmbeddedItems([self.embedded_items(params, features, item_U)])

    def embedded_items(
        self, params: Params, features: Encoded, item_U: torch.Tensor
    ) -> torch.Tensor:
        """Return the embedded features of items, (U, F)."""
        parts = [_embed(params, "item", f, features[f.name][item_U]) for f in self.item_fields]
        return torch.cat(parts, -1) if parts else params["layer.0.bias"].new_zeros((len(item_U), 0))

    def forward(
        self,
        params: Params,
        user_F: torch.Tensor,
        item_RF: torch.Tensor,
        statistics_RD: torch.Tensor,
    ) -> torch.Tensor:
        """Return one user's outputs (R,), in plain operations. If every input has a leading
        dimension of users, return those of all, (B, R)."""
        last = self.num_layers - 1
        x_RH = self.last_inputs(params, user_F, item_RF, statistics_RD)
        z_R1 = F.linear(x_RH, params[f"layer.{last}.weight"], params[f"layer.{last}.bias"])
        return self.started(z_R1[..., 0], statistics_RD)

    def last_inputs(
        self,
        params: Params,
        user_F: torch.Tensor,
        item_RF: torch.Tensor,
        statistics_RD: torch.Tensor,
    ) -> torch.Tensor:
        """Return the last layer's inputs for one user's rows, (R, H). If every input has a leading
        dimension of users, return those of all, (B, R, H). Items and statistics may have 1 for
        B."""
        raise NotImplementedError(f"{type(self).__name__} must say what its hidden layers do.")

    def joined(
        self, user_F: torch.Tensor, item_RF: torch.Tensor, statistics_RD: torch.Tensor
    ) -> torch.Tensor:
        """Return all features of rows, concatenated, (R, F) or (B, R, F)."""
        rows = np.broadcast_shapes((*user_F.shape[:-1], 1), item_RF.shape[:-1])
        parts = [user_F[..., None, :], item_RF]
        if self.config.use_statistics:
            parts.append(statistics_RD.to(user_F.dtype))
        return torch.cat([part.expand(*rows, -1) for part in parts], -1)

    def started(self, output: torch.Tensor, statistics: torch.Tensor) -> torch.Tensor:
        """Return outputs (...) plus the values that they start from, given statistics (..., D)."""
        return output + statistics[..., 0] if self.starts_from_item_mean else output

    def _width(self, field: Field) -> int:
        return self.config.embedding_dim if field.is_coded else field.width


def _embed(params: Params, side: str, field: Field, values: torch.Tensor) -> torch.Tensor:
    """Return (N, F) for one field: numbers unchanged, the embedding of a code, or the mean
    embedding of a list."""
    if not field.is_coded:
        numbers_NF = values.reshape(len(values), field.width)
        return numbers_NF.to(params["layer.0.bias"].dtype)
    table = params[f"embedding.{side}.{field.name}"]
    if field.kind == "categorical":
        return F.embedding(values, table, sparse=is_large(table))
    num_present_N1 = (values > 0).sum(1, keepdim=True).clamp(min=1)
    # One operation that never holds (N, W, F); it skips code 0.
    sum_NF = F.embedding_bag(values, table, mode="sum", padding_idx=0, sparse=is_large(table))
    return sum_NF / num_present_N1


def distinct(
    sides: Sequence[torch.Tensor], features: Encoded
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the distinct items (U,) of several sides of item numbers, and each side as places
    among them."""
    flat_N = torch.cat([side.reshape(-1) for side in sides])
    num_items = len(next(iter(features.values()))) if features else 0
    if 0 < num_items < SORT_FROM * len(flat_N):
        is_met = torch.zeros(num_items, dtype=torch.bool, device=flat_N.device)
        is_met[flat_N] = True
        item_U, place_N = is_met.nonzero()[:, 0], (is_met.cumsum(0) - 1)[flat_N]
    else:
        item_U, place_N = torch.unique(flat_N, return_inverse=True)
    pieces = torch.split(place_N, [side.numel() for side in sides])
    return item_U, [piece.view(side.shape) for piece, side in zip(pieces, sides, strict=True)]


def gather(table_UF: torch.Tensor, place_BR: torch.Tensor) -> torch.Tensor:
    """Return the rows of a table at these places, (B, R, F)."""
    rows_NF = table_UF.index_select(0, place_BR.reshape(-1))
    return rows_NF.view(*place_BR.shape, table_UF.shape[1])


def some_hidden(features: Encoded, share: float, generator: torch.Generator) -> Encoded:
    """Return the items' features for a training batch: in this share of the batches they have no
    ids, as if all items were new (DropoutNet: Volkovs, Yu, Poutanen, NeurIPS 2017)."""
    is_hidden = share > 0 and bool(torch.rand((), generator=generator) < share)
    if not is_hidden or ITEM_ID_FIELD not in features:
        return features
    return {**features, ITEM_ID_FIELD: torch.zeros_like(features[ITEM_ID_FIELD])}
