"""The content that another model has learned, perhaps on another data set, as a start for this one.

Fields are matched by name and kind, categories by value; whatever the other model does not know
starts fresh. Ids of items are never carried over: one data set's "50" is not the other's. The
columns of a network's layers that read the matched fields are carried over, too. Parameters of
numeric attributes are rescaled to this model's encoder. Outputs are not: each data set has its own
mean and spread of values, and a model predicts in units of these.

Legend: N rows of a table (row 0: unknown value), C coefficients of an item's content, E width.
"""

import dataclasses
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from recmeta.errors import UserError
from recmeta.metalearn.factors.content_prior import KnownContent
from recmeta.metalearn.learner import Params
from recmeta.metalearn.networks import item_vectors
from recmeta.metalearn.starts.beginning import Built
from recmeta.metalearn.tensors.encoding import ITEM_ID_FIELD, Field

Side = Literal["user", "item"]


@dataclasses.dataclass(frozen=True)
class MatchedField:
    """A field of the new model with its counterpart in the source."""

    side: Side
    field: Field
    source: Field
    row_N: torch.Tensor
    """(N,) the row of the source's table for each row of the new model's, or -1 where there is
    none."""

    @property
    def known_N(self) -> torch.Tensor:
        """(N,) whether the source has the row."""
        return self.row_N >= 0

    def taken_from(self, learned_NE: torch.Tensor, fresh_NE: torch.Tensor) -> torch.Tensor:
        """Return the fresh table with its rows replaced by the source's, where the source has
        them."""
        table_NE = fresh_NE.clone()
        found_NE = learned_NE.detach().to(table_NE)[self.row_N[self.known_N].to(table_NE.device)]
        if (
            self.field.kind == "numeric"
        ):  # the table is per standard deviation, which differs between the two
            found_NE = found_NE * (self.field.scale / self.source.scale)
        table_NE[self.known_N.to(table_NE.device)] = found_NE
        return table_NE


@dataclasses.dataclass(frozen=True)
class Matched:
    """The content that a new model can take over from a source."""

    fields: tuple[MatchedField, ...]
    fresh: dict[str, str]
    """The reasons why fields start fresh, by `side.field`."""

    def held_rows(self, params: Params) -> dict[str, torch.Tensor]:
        """Return, by parameter, (N,) which of its rows are the source's and are to be kept
        unchanged."""
        return {
            name: one.known_N
            for one in self.fields
            for name in params
            if _is_table(name, one) and len(params[name]) == len(one.row_N)
        }

    def report(self) -> dict[str, str]:
        """Return, by `side.field`, a description of what was carried over and what was not."""
        words = {}
        for one in self.fields:
            num_known, num_all = int(one.known_N[1:].sum()), one.field.num_codes - 1
            carried = f"{num_known} of {num_all} values" if one.field.is_coded else "carried over"
            words[f"{one.side}.{one.field.name}"] = carried
        return words | {name: f"fresh: {why}" for name, why in self.fresh.items()}


def matched(built: Built, source: Built) -> Matched:
    """Return the content of a source that matches a new model.

    Raises:
        UserError: when no field matches.
    """
    found: list[MatchedField] = []
    fresh: dict[str, str] = {}
    sides: tuple[tuple[Side, tuple[Field, ...], tuple[Field, ...]], ...] = (
        ("user", built.encoder.user_fields, source.encoder.user_fields),
        ("item", built.encoder.item_fields, source.encoder.item_fields),
    )
    for side, fields, known in sides:
        by_name = {f.name: f for f in known}
        for field in fields:
            if side == "item" and field.name == ITEM_ID_FIELD:
                fresh[f"{side}.{field.name}"] = "ids mean nothing elsewhere"
                continue
            one = _match(side, field, by_name.get(field.name))
            if isinstance(one, str):
                fresh[f"{side}.{field.name}"] = one
            else:
                found.append(one)
    if not found:
        why = "; ".join(f"{name}: {reason}" for name, reason in fresh.items())
        raise UserError(
            "content_from names a model that knows nothing of this data set's content "
            f"({why}): choose one with an attribute of the same name and kind, or leave it out."
        )
    return Matched(tuple(found), fresh)


def _match(side: Side, field: Field, source: Field | None) -> MatchedField | str:
    """Return the match, or the reason why there is none."""
    if source is None:
        return "the source does not read it"
    if field.is_coded != source.is_coded or (not field.is_coded and field.kind != source.kind):
        return f"{source.kind} in the source, {field.kind} here"
    if field.is_coded:
        values = pa.array(field.values, pa.string())
        place = pc.index_in(values, pa.array(source.values, pa.string()))
        row = np.concatenate([[0], pc.fill_null(place, -1).to_numpy() + 1]).astype(np.int64)
        row[1:][row[1:] == 0] = -1
        if (row[1:] < 0).all():
            return "no value in common"
        return MatchedField(side, field, source, torch.from_numpy(row))
    if field.kind == "vector" and field.components != source.components:
        return "its vectors are read by other components"
    return MatchedField(side, field, source, torch.arange(field.num_rows))


def start_from_content(built: Built, params: Params, source: Built) -> Params:
    """Return parameters with the source's embeddings of content, and, where both have a preference
    network, with the layers that read them.

    Raises:
        UserError: when no field matches, or widths differ.
    """
    found = matched(built, source)
    started = dict(params)
    for one in found.fields:
        for name, fresh in params.items():
            if _is_table(name, one) and name in source.params:
                learned = source.params[name]
                if learned.shape[1] != fresh.shape[1]:
                    raise _other_width(name, learned.shape[1], fresh.shape[1])
                started[name] = one.taken_from(learned, fresh)
    if "layer.0.weight" in params and "layer.0.weight" in source.params:
        started |= _layers(built, started, source, found)
    if not any(started[name] is not params[name] for name in params):
        raise UserError(
            f"content_from names a model of the learner {source.algorithm!r}, whose "
            f"parameters have no place in {built.algorithm!r}: choose a model of the same "
            "learner."
        )
    return started


def known_content(built: Built, source: Built, num_factors: int, *, keep: bool) -> KnownContent:
    """Return the content tables of a closed-form source, for the factorisation of a new log.

    They are in the axes of the source's user weights.

    Args:
        num_factors: the number of factors of the new model.
        keep: whether the source's rows are kept unchanged.

    Raises:
        UserError: if no field matches, the source has another learner, or its vectors have another
            length.
    """
    width = num_factors + 1
    _check_closed_form(built, source, width)
    axes_CC = source.params[item_vectors.FROM_CONTENT][:, :width].double()
    tables, known = {}, {}
    for one in matched(built, source).fields:
        if one.side == "item":
            name = item_vectors.content_name(one.source)
            learned_NC = source.params[name].double() @ axes_CC
            fresh_NC = torch.zeros((one.field.num_rows, width), dtype=torch.float64)
            tables[one.field.name] = one.taken_from(learned_NC, fresh_NC)
            known[one.field.name] = one.known_N
    return KnownContent(tables, known, keep=keep)


def start_users(built: Built, params: Params, source: Built, turn_CC: torch.Tensor) -> Params:
    """Return parameters whose tables of user attributes are a closed-form source's.

    Args:
        turn_CC: the rotation of the factorisation's items since it began with the source's content.
            Users' weights are rotated back.
    """
    started = dict(params)
    # A user's first weight is a bias; the others act on factors.
    back_CC = torch.zeros_like(turn_CC)
    back_CC[0, 0] = 1.0
    back_CC[1:, 1:] = torch.linalg.inv(turn_CC[1:, 1:]).T
    for one in matched(built, source).fields:
        for name in params if one.side == "user" else ():
            if _is_table(name, one) and name in source.params:
                learned_NC = source.params[name].double() @ back_CC
                started[name] = one.taken_from(learned_NC, params[name])
    return started


def start_item_vectors(built: Built, params: Params, source: Built) -> Params:
    """Return parameters of a learner on `ItemVectors` with a source's content, if there is no
    factorisation that could begin with it.

    Raises:
        UserError: as `known_content` does.
    """
    width = len(params[item_vectors.INTERCEPT])
    known = known_content(built, source, width - 1, keep=False)
    started = dict(params)
    for field in built.encoder.item_fields:
        if field.name in known.tables:
            name = item_vectors.content_name(field)
            table_NC = known.tables[field.name].to(params[name])
            started[name] = torch.where(known.known[field.name][:, None], table_NC, params[name])
    return start_users(built, started, source, torch.eye(width, dtype=torch.float64))


def _check_closed_form(built: Built, source: Built, width: int) -> None:
    if item_vectors.FROM_CONTENT not in source.params:
        raise UserError(
            f"content_from names a model of the learner {source.algorithm!r}, and "
            f"{built.algorithm!r} starts from one of its own kind alone."
        )
    found = len(source.params[item_vectors.INTERCEPT])
    if found != width:
        raise _other_width("learner.num_factors", found - 1, width - 1)


def _layers(built: Built, params: Params, source: Built, found: Matched) -> Params:
    """Return the source's decision layers, except for the columns that read fields without a
    match."""
    ours, theirs = built.network, source.network
    if ours.config.hidden_dims != theirs.config.hidden_dims:
        raise UserError(
            f"content_from names a model with network.hidden_dims {theirs.config.hidden_dims}, and "
            f"the new one has {ours.config.hidden_dims}: give both the same."
        )
    last = ours.num_layers - 1
    place, from_place = ours.input_columns(), theirs.input_columns()
    layers: Params = {}
    for index in range(ours.num_layers):
        weight_name, bias_name = f"layer.{index}.weight", f"layer.{index}.bias"
        weight = params[weight_name].clone()
        learned = source.params[weight_name].detach().to(weight)
        bias = source.params[bias_name].detach().clone().to(weight)
        hidden = ours.config.hidden_dims[-1] if index == last and last > 0 else 0
        if 0 < index < last:
            weight = learned
        weight[:, :hidden] = learned[:, :hidden]
        reads_inputs = index == 0 or (index == last and ours.config.wide and theirs.config.wide)
        for one in found.fields if reads_inputs else ():
            key = (one.side, one.field.name)
            read = learned[:, _shifted(from_place[key], hidden)]
            if one.field.kind == "numeric":
                shift = (one.field.mean - one.source.mean) / one.source.scale
                bias = bias + read[:, 0] * shift
                read = read * (one.field.scale / one.source.scale)
            weight[:, _shifted(place[key], hidden)] = read
        layers |= {weight_name: weight, bias_name: bias}
    return layers


def _shifted(columns: slice, by: int) -> slice:
    return slice(columns.start + by, columns.stop + by)


def _is_table(name: str, one: MatchedField) -> bool:
    return name.endswith(f".{one.side}.{one.field.name}")


def _other_width(what: str, has: int, wanted: int) -> UserError:
    return UserError(
        f"content_from names a model whose {what} has width {has}, and the new one's has {wanted}: "
        "give both the same network.embedding_dim, or learner.num_factors."
    )
