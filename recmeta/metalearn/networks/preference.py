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
from recmeta.metalearn.adaptation import Features, LayerState, Parts, Pass, by_hidden
from recmeta.metalearn.batch import NUM_STATISTICS
from recmeta.metalearn.differentiable import relu
from recmeta.metalearn.encoding import Features as Encoded
from recmeta.metalearn.encoding import Field
from recmeta.metalearn.learner import Params

SORT_FROM = 16
"""Items per row of a batch from which sorting the rows is cheaper than a mark for every item."""


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


@dataclasses.dataclass(frozen=True)
class EmbeddedItems:
    """Items as the decision layers see them; (U, ·), or gathered to rows (B, R, ·)."""

    tables: list[torch.Tensor]
    """Their features, side by side; then these times the weights of the first layer, and of the
    last where it is wide."""


@dataclasses.dataclass(frozen=True)
class JoinedRows:
    """The features of B users' R rows."""

    parts: Parts
    """Of the user, of the items, of the items' past."""
    products: list[torch.Tensor]
    """(B, R, o) outputs of the first layer, and the features' share of the last's where it is wide,
    before adaptation."""
    statistics_BRD: torch.Tensor


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

    def embed_users(self, params: Params, user: Encoded, num_users: int) -> torch.Tensor:
        """Return the embedded features of users, (B, F)."""
        parts = [_embed(params, "user", field, user[field.name]) for field in self.user_fields]
        if parts:
            return torch.cat(parts, -1)
        return params["layer.0.bias"].new_zeros((num_users, 0))

    def embed_items(self, params: Params, features: Encoded, item_U: torch.Tensor) -> EmbeddedItems:
        """Return items with their half of what layers make of features; to be done once for each
        distinct item."""
        bias_o = params["layer.0.bias"]
        parts = [_embed(params, "item", f, features[f.name][item_U]) for f in self.item_fields]
        embedded_UF = torch.cat(parts, -1) if parts else bias_o.new_zeros((len(item_U), 0))
        products = [
            F.linear(embedded_UF, self._feature_weights(params, layer)[1])
            for layer in self._feature_layers
        ]
        return EmbeddedItems([embedded_UF, *products])

    def join(
        self,
        params: Params,
        user_BF: torch.Tensor,
        item: EmbeddedItems,
        statistics_BRD: torch.Tensor,
    ) -> JoinedRows:
        """Return the features of rows, and what the layers make of them before they adapt.

        Args:
            item: gathered to (B, R, ·), with 1 for B where all users are asked about the same.
            statistics_BRD: as in `Rows`.
        """
        user_B1F = user_BF[:, None]
        embedded_BRF, *item_products = item.tables
        parts: Parts = (user_B1F, embedded_BRF)
        statistics = None
        if self.config.use_statistics:
            statistics = statistics_BRD.to(user_BF.dtype)
            parts = (*parts, statistics)
        products = []
        for layer, item_product in zip(self._feature_layers, item_products, strict=True):
            of_user, _, of_statistics = self._feature_weights(params, layer)
            z_BRo = F.linear(user_B1F, of_user, params[f"layer.{layer}.bias"]) + item_product
            if statistics is not None:
                z_BRo = z_BRo + F.linear(statistics, of_statistics)
            products.append(z_BRo)
        return JoinedRows(parts, products, statistics_BRD)

    def decide(
        self,
        params: Params,
        rows: JoinedRows,
        features: Features,
        states: Sequence[LayerState | None],
    ) -> Pass:
        """Run the decision layers as each user has adapted them.

        Args:
            features: those of the rows and of the support.
            states: per layer; None: not adapted.
        """
        hidden: torch.Tensor | None = None
        run = Pass(rows.products[0], [], [], [])
        z = run.output_BR
        for index in range(self.num_layers):
            reads_features = index in self._feature_layers
            weight, bias = params[f"layer.{index}.weight"], params[f"layer.{index}.bias"]
            state = states[index]
            z_BRo: torch.Tensor | None = None
            if reads_features:
                z_BRo = rows.products[0 if hidden is None else 1]
                if state is not None and state.by_features_BSo is not None:
                    z_BRo = features.change(z_BRo, state.by_features_BSo)
            if hidden is not None:
                width = hidden.shape[-1]
                own_bias = None if reads_features else bias
                z_BRo = by_hidden(hidden, weight[:, :width], own_bias, z_BRo, state)
            assert z_BRo is not None, "the first layer reads features, the others hidden inputs"
            z = z_BRo
            if torch.is_grad_enabled() and not z.requires_grad:
                z.requires_grad_()  # adaptation asks for the gradient here, whatever lies below
            run.hidden.append(hidden)
            run.reads_features.append(reads_features)
            run.outputs.append(z)
            if index < self.num_layers - 1:
                hidden = relu(z) if torch.is_grad_enabled() else z.relu_()
        output_BR = z[..., 0]
        if self.starts_from_item_mean:
            output_BR = output_BR + rows.statistics_BRD[..., 0]
        return dataclasses.replace(run, output_BR=output_BR)

    @property
    def _feature_layers(self) -> tuple[int, ...]:
        """The layers that read features: the first; where it is wide, the last too."""
        last = self.num_layers - 1
        return (0, last) if last > 0 and self.config.wide else (0,)

    def _feature_weights(self, params: Params, layer: int) -> Sequence[torch.Tensor]:
        """Return a layer's weights of the user's features, the item's and the statistics."""
        user_width = sum(self._width(f) for f in self.user_fields)
        item_width = sum(self._width(f) for f in self.item_fields)
        widths = [user_width, item_width, NUM_STATISTICS if self.config.use_statistics else 0]
        weight_oi = params[f"layer.{layer}.weight"]
        return torch.split(weight_oi[:, weight_oi.shape[1] - sum(widths) :], widths, 1)

    def _width(self, field: Field) -> int:
        return 1 if field.kind == "numeric" else self.config.embedding_dim


def _embed(params: Params, side: str, field: Field, values: torch.Tensor) -> torch.Tensor:
    """Return (N, F) for one field: a number as it is, a code's embedding, the mean of a list's."""
    if field.kind == "numeric":
        return values[:, None].to(params["layer.0.bias"].dtype)
    table = params[f"embedding.{side}.{field.name}"]
    if field.kind == "categorical":
        return F.embedding(values, table)
    num_present_N1 = (values > 0).sum(1, keepdim=True).clamp(min=1)
    # One operation that never holds (N, W, F); it skips code 0.
    return F.embedding_bag(values, table, mode="sum", padding_idx=0) / num_present_N1


def distinct(
    sides: Sequence[torch.Tensor], features: Encoded
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the distinct items (U,) of several sides of item numbers, and each side as places in
    them."""
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
