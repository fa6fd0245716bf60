"""A start for meta-training: what a matrix factorisation or an earlier model has found already.

Meta-training from noise must find the items' directions and how users move along them at once, from
few users. Starting where a factorisation ends leaves it the second task; starting where an earlier
model ends leaves what is new.

Legend: I items, F factors, E embedding width.
"""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from recmeta.errors import UserError
from recmeta.metalearn.algorithms.closed_form import bayesian_linear
from recmeta.metalearn.factors.content_prior import ContentConfig, ContentRegression, KnownContent
from recmeta.metalearn.factors.factorisation import (
    BayesianFactorisation,
    FactorisationConfig,
    factorise,
)
from recmeta.metalearn.learner import Params
from recmeta.metalearn.model import Model
from recmeta.metalearn.networks import item_vectors
from recmeta.metalearn.starts.content_transfer import known_content, start_users
from recmeta.metalearn.tensors.encoding import ITEM_ID_FIELD, Field
from recmeta.tasks.task_set import Ragged

MOST_NETWORK_FACTORS = 16
"""Factors that a network's embeddings begin with, beside the bias; the rest is free."""


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
    item = known_items(model)
    if item is None or name not in params:
        return params
    table = params[name].clone()
    room = min(factors_IF.shape[1], table.shape[1] - 1)
    components = _leading(factors_IF, room)
    table[0] = 0.0
    table[1:, 0] = (bias_I[item] / model.encoder.value_scale).to(table)
    table[1:, 1 : 1 + room] = components[item].to(table)
    started = {**params, name: table}
    column = model.network.wide_column(ITEM_ID_FIELD)
    last, _ = _last_layer(model)
    if column is not None and last in params:
        weight = params[last].clone()
        weight[0, column] = 1.0
        started[last] = weight
    return started


def start_from_factorisation(
    model: Model,
    params: Params,
    rows: Ragged,
    seed: int,
    source: Model | None = None,
    *,
    keep: bool = False,
) -> Params:
    """Return parameters that begin with a Bayesian matrix factorisation of the meta-training rows.

    A learner on item vectors then predicts as the factorisation does. Any other gets it into its
    embeddings: those of content attributes hold what these say of an item's bias and factors, those
    of items the rest; where it has a network whose last layer is `wide`, that starts by adding the
    biases.

    Args:
        rows: per user, in units of the value.
        seed: of the factorisation.
        source: of a learner on item vectors, the model whose content the factorisation begins with
            and shrinks to, and whose users' attributes are carried over; None: none.
        keep: whether the rows of that content stay as they are.

    Raises:
        UserError: when the source's content has no place here.
    """
    if not reads_item_vectors(params):
        num_factors = min(MOST_NETWORK_FACTORS, model.config.network.embedding_dim - 1)
        found = _factorised(model, rows, num_factors, seed)
        return _network_start(model, params, found.standardised())
    num_factors = len(params[item_vectors.INTERCEPT]) - 1
    known = None if source is None else known_content(model, source, num_factors, keep=keep)
    found = _factorised(model, rows, num_factors, seed, known)
    started = _closed_form_start(model, params, found.standardised())
    return started if source is None else start_users(model, started, source, found.turn())


def reads_item_vectors(params: Params) -> bool:
    """Return whether the parameters are of a learner on `ItemVectors`, which are a factorisation's
    by nature."""
    return item_vectors.INTERCEPT in params


def has_embedding_per_item(params: Params) -> bool:
    """Return whether the parameters are of a learner whose items have embeddings of their own to
    begin with a factorisation's vectors; item vectors, which are those, are not among them."""
    return f"embedding.item.{ITEM_ID_FIELD}" in params and not reads_item_vectors(params)


def _factorised(
    model: Model, rows: Ragged, num_factors: int, seed: int, known: KnownContent | None = None
) -> BayesianFactorisation:
    catalogue, encoder = model.catalogue, model.encoder
    scaled = (rows.value - encoder.value_mean) / encoder.value_scale
    _, version_I = np.unique(catalogue.items.item, return_index=True)
    first = torch.from_numpy(version_I)
    features = {name: t.cpu()[first] for name, t in catalogue.features.items()}
    content = ContentRegression(
        encoder.item_fields, features, catalogue.num_items, ContentConfig(), seed, known
    )
    return factorise(
        dataclasses.replace(rows, value=scaled),
        content,
        catalogue.num_items,
        FactorisationConfig(num_factors=num_factors),
        seed,
    )


def _closed_form_start(model: Model, params: Params, found: BayesianFactorisation) -> Params:
    started = dict(params)

    def put(name: str, value: torch.Tensor) -> None:
        if name in params:
            started[name] = value.to(params[name])

    prior = found.content
    for field in model.encoder.item_fields:
        if field.name != ITEM_ID_FIELD:
            put(item_vectors.content_name(field), prior.tables[field.name])
    put(item_vectors.INTERCEPT, prior.intercept_C)
    bias_X = torch.zeros_like(params[item_vectors.BIAS])
    bias_X[0] = found.user_mean_C[0]
    put(item_vectors.BIAS, bias_X)
    put(bayesian_linear.LOG_NOISE, torch.tensor(found.noise).log())
    put(bayesian_linear.PRIOR_LOG_PRECISION, -found.user_covariance_CC.diagonal().log())
    known = known_items(model)
    if known is not None:
        put(item_vectors.IDENTITY, torch.zeros_like(params[item_vectors.IDENTITY]))
        deviation_IC = found.item_covariance_ICC.diagonal(dim1=1, dim2=2).sqrt()
        for name, told_IC in (
            (item_vectors.DEVIATION, deviation_IC),
            (item_vectors.FACTORS, found.item_IC - prior.fitted_IC),
            (item_vectors.HELD_OUT, prior.held_out_IC - prior.fitted_IC),
        ):
            put(name, torch.cat([torch.zeros_like(told_IC[:1]), told_IC[known]]))
    return started


def _network_start(model: Model, params: Params, found: BayesianFactorisation) -> Params:
    started = dict(params)
    weight_name, bias_name = _last_layer(model)
    last = {n: params[n].clone() for n in (weight_name, bias_name) if n in params}
    known = known_items(model)
    for field in model.encoder.item_fields:
        if not field.is_coded:
            continue  # it has no embedding to hold anything
        if field.name != ITEM_ID_FIELD:
            told = found.content.tables[field.name]
        else:
            assert known is not None, "a field of item ids knows its items"
            own_IC = found.item_IC - found.content.fitted_IC
            told = torch.cat([torch.zeros_like(own_IC[:1]), own_IC[known]])
        name = f"embedding.item.{field.name}"
        if name not in params:
            continue
        table = params[name].clone()
        table[:, : told.shape[1]] = told.to(table)
        table[0] = 0.0
        started[name] = table
        column = model.network.wide_column(field.name)
        if column is not None and weight_name in last:
            last[weight_name][0, column] = 1.0
    if bias_name in last:
        last[bias_name] += (found.user_mean_C[0] + found.content.intercept_C[0]).to(last[bias_name])
    return started | last


def _last_layer(model: Model) -> tuple[str, str]:
    """Return the names of the last layer's weight and bias, where a learner has the network."""
    last = f"layer.{model.network.num_layers - 1}"
    return f"{last}.weight", f"{last}.bias"


def known_items(model: Model) -> torch.Tensor | None:
    """Return the number of the item of each code but 0; None where items have no embedding of their
    own."""
    field = next((f for f in model.encoder.item_fields if f.name == ITEM_ID_FIELD), None)
    if field is None:
        return None
    number = pc.index_in(pa.array(field.values, pa.string()), model.catalogue.items.item_id)
    return torch.from_numpy(np.asarray(number.to_numpy(), np.int64))


def start_from_model(model: Model, params: Params, earlier: Model) -> Params:
    """Return the parameters of an earlier model, as far as they have a place in the new one.

    A value that both vocabularies know keeps its embedding; one that is new has the fresh one of
    `params`. Where the scale of the values has changed, the last layer of a network is changed so
    that outputs mean the same in units of the value.

    Raises:
        UserError: when the earlier model has other features or another shape.
    """
    started = dict(params)
    transferred = set[str]()
    for side, fields, known in (
        ("user", model.encoder.user_fields, earlier.encoder.user_fields),
        ("item", model.encoder.item_fields, earlier.encoder.item_fields),
    ):
        if [(f.name, f.kind) for f in fields] != [(f.name, f.kind) for f in known]:
            raise UserError(
                f"the model to start from reads {_names(known)} of {side}s, and the new one "
                f"{_names(fields)}: start from 'factors' or 'random' instead."
            )
        for field, before in zip(fields, known, strict=True):
            tables = [n for n in params if n.endswith(f".{side}.{field.name}")]
            for name in tables if field.is_coded else ():
                found = _learned(earlier, name, params[name])
                started[name] = _transferred(params[name], field, found, before)
                transferred.add(name)
    for name, value in params.items():
        if name in transferred:
            continue
        found = _learned(earlier, name, value)
        if found.shape != value.shape:
            raise _other_shape(f"shape {tuple(found.shape)}", name, value)
        started[name] = found.detach().cpu().clone()
    ratio = earlier.encoder.value_scale / model.encoder.value_scale
    shift = (earlier.encoder.value_mean - model.encoder.value_mean) / model.encoder.value_scale
    if bayesian_linear.PRIOR_BY_SUPPORT in params:
        return bayesian_linear.rescaled(started, ratio, shift)
    weight_name, bias_name = _last_layer(model)
    if bias_name in started:
        started[weight_name] = started[weight_name] * ratio
        started[bias_name] = started[bias_name] * ratio + shift
    return started


def _learned(earlier: Model, name: str, fresh: torch.Tensor) -> torch.Tensor:
    if name not in earlier.params:
        raise _other_shape("nothing", name, fresh)
    return earlier.params[name]


def _other_shape(has: str, name: str, fresh: torch.Tensor) -> UserError:
    return UserError(
        f"the model to start from has {has} where the new one has {name!r} of shape "
        f"{tuple(fresh.shape)}: give both the same configuration, or start from 'factors' or "
        "'random'."
    )


def _transferred(
    fresh: torch.Tensor, field: Field, learned: torch.Tensor, known: Field
) -> torch.Tensor:
    """Return an embedding table whose rows are the learned ones where the value was known."""
    if fresh.shape[1] != learned.shape[1]:
        raise UserError(
            f"the model to start from has embeddings of width {learned.shape[1]}, and the new one "
            f"of {fresh.shape[1]}: give both the same network.embedding_dim, or start from "
            "'factors' or 'random'."
        )
    place = pc.index_in(pa.array(field.values, pa.string()), pa.array(known.values, pa.string()))
    code = np.concatenate([[0], pc.fill_null(place, -1).to_numpy() + 1]).astype(np.int64)
    found = np.flatnonzero((code > 0) | (np.arange(len(code)) == 0))
    table = fresh.clone()
    table[torch.from_numpy(found)] = learned.detach().cpu()[torch.from_numpy(code[found])]
    return table


def _names(fields: tuple[Field, ...]) -> str:
    return ", ".join(f"{f.name} ({f.kind})" for f in fields) or "nothing"


def _leading(factors_IF: torch.Tensor, room: int) -> torch.Tensor:
    """Return the factors, rotated to their leading principal components if they are too many."""
    if room == factors_IF.shape[1]:
        return factors_IF
    _, _, directions_FF = torch.linalg.svd(factors_IF, full_matrices=False)
    leading: torch.Tensor = factors_IF @ directions_FF[:room].T
    return leading
