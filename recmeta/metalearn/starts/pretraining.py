"""A start for meta-training: the result of a matrix factorisation.

Meta-training from noise must find, from few users, both the items' directions and how users move
along them. After a factorisation only the second task is left.

Legend: I items, F factors, E embedding width.
"""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from recmeta.metalearn.factors.content_prior import ContentConfig, ContentRegression, KnownContent
from recmeta.metalearn.factors.factorisation import (
    BayesianFactorisation,
    FactorisationConfig,
    factorise,
)
from recmeta.metalearn.learner import Params
from recmeta.metalearn.starts.beginning import Built
from recmeta.metalearn.starts.last_layer import last_layer_names
from recmeta.metalearn.tensors.encoding import ITEM_ID_FIELD
from recmeta.tasks import scratch
from recmeta.tasks.task_set import Ragged

MOST_NETWORK_FACTORS = 16
"""The most factors that a network's embeddings begin with, besides the bias; their other numbers
are free."""


def start_from_factors(
    built: Built, params: Params, bias_I: torch.Tensor, factors_IF: torch.Tensor
) -> Params:
    """Return the parameters with the items' own embeddings taken from a factorisation.

    An embedding's first number becomes the item's bias in units of the model, the next ones its
    factors (their leading principal components, where the embedding has no room for all). If the
    last layer reads the embedding itself (`wide`), it starts by adding the bias, so that the
    untrained model predicts as an item mean does. An unknown item starts at zero. Without an
    embedding per item (`use_item_id`) nothing changes.

    Args:
        bias_I: the items' biases, in units of the value.
        factors_IF: the items' vectors, in any scale.
    """
    name = f"embedding.item.{ITEM_ID_FIELD}"
    item = known_items(built)
    if item is None or name not in params:
        return params
    table = params[name].clone()
    room = min(factors_IF.shape[1], table.shape[1] - 1)
    components = _leading(factors_IF, room)
    table[0] = 0.0
    table[1:, 0] = (bias_I[item] / built.encoder.value_scale).to(table)
    table[1:, 1 : 1 + room] = components[item].to(table)
    started = {**params, name: table}
    column = built.network.wide_column(ITEM_ID_FIELD)
    last, _ = last_layer_names(built)
    if column is not None and last in params:
        weight = params[last].clone()
        weight[0, column] = 1.0
        started[last] = weight
    return started


def start_from_factorisation(
    built: Built,
    params: Params,
    rows: Ragged,
    seed: int,
    factorised: dict[int, BayesianFactorisation] | None = None,
) -> Params:
    """Return parameters whose embeddings hold a Bayesian matrix factorisation of the meta-training
    rows: the embeddings of content attributes hold their effects on an item's bias and factors, and
    the embeddings of items hold the rest. A network's `wide` last layer starts by adding the
    biases.

    Args:
        rows: the users' rows, in units of the value.
        seed: the seed of the factorisation.
        factorised: see `bayesian_factors`.
    """
    num_factors = min(MOST_NETWORK_FACTORS, built.network.config.embedding_dim - 1)
    found = bayesian_factors(built, rows, num_factors, seed, factorised=factorised)
    return _in_embeddings(built, params, found.standardised())


def has_embedding_per_item(params: Params) -> bool:
    """Return whether the learner of these parameters has an embedding per item, which can begin
    with a factorisation's vector."""
    return f"embedding.item.{ITEM_ID_FIELD}" in params


def bayesian_factors(
    built: Built,
    rows: Ragged,
    num_factors: int,
    seed: int,
    known: KnownContent | None = None,
    factorised: dict[int, BayesianFactorisation] | None = None,
) -> BayesianFactorisation:
    """Return a Bayesian matrix factorisation of the values, in units of the model.

    Args:
        rows: the users' rows, in units of the value.
        seed: the seed of the factorisation.
        known: the content that it begins with and shrinks to, or None.
        factorised: factorisations of the same rows and features with the same seed, by number of
            factors, or None for none. Without known content, the result is taken from there, or
            added.
    """
    if known is None and factorised is not None and num_factors in factorised:
        return factorised[num_factors]
    encoder = built.encoder
    scaled = scratch.joined(
        ((v - encoder.value_mean) / encoder.value_scale for v in scratch.pieces(rows.value)),
        np.float32,
    )
    found = factorise(
        dataclasses.replace(rows, value=scaled),
        content_regression(built, seed, known),
        built.catalogue.num_items,
        FactorisationConfig(num_factors=num_factors),
        seed,
    )
    if known is None and factorised is not None:
        factorised[num_factors] = found
    return found


def content_regression(
    built: Built, seed: int, known: KnownContent | None = None
) -> ContentRegression:
    """Return the regression on the first version of the catalogue's items."""
    catalogue = built.catalogue
    _, version_I = np.unique(catalogue.items.item, return_index=True)
    first = torch.from_numpy(version_I)
    features = {name: t.cpu()[first] for name, t in catalogue.features.items()}
    return ContentRegression(
        built.encoder.item_fields, features, catalogue.num_items, ContentConfig(), seed, known
    )


def _in_embeddings(built: Built, params: Params, found: BayesianFactorisation) -> Params:
    started = dict(params)
    weight_name, bias_name = last_layer_names(built)
    last = {n: params[n].clone() for n in (weight_name, bias_name) if n in params}
    known = known_items(built)
    for field in built.encoder.item_fields:
        if not field.is_coded:
            continue  # it has no embedding
        if field.name != ITEM_ID_FIELD:
            table_NC = found.content.tables[field.name]
        else:
            assert known is not None, "item ids are a field only where items are known"
            own_IC = found.item_IC - found.content.fitted_IC
            table_NC = torch.cat([torch.zeros_like(own_IC[:1]), own_IC[known]])
        name = f"embedding.item.{field.name}"
        if name not in params:
            continue
        table = params[name].clone()
        table[:, : table_NC.shape[1]] = table_NC.to(table)
        table[0] = 0.0
        started[name] = table
        column = built.network.wide_column(field.name)
        if column is not None and weight_name in last:
            last[weight_name][0, column] = 1.0
    if bias_name in last:
        last[bias_name] += (found.user_mean_C[0] + found.content.intercept_C[0]).to(last[bias_name])
    return started | last


def known_items(built: Built) -> torch.Tensor | None:
    """Return the item number of each code except 0, or None if items have no embedding of their
    own."""
    field = next((f for f in built.encoder.item_fields if f.name == ITEM_ID_FIELD), None)
    if field is None:
        return None
    number = pc.index_in(pa.array(field.values, pa.string()), built.catalogue.items.item_id)
    return torch.from_numpy(np.asarray(number.to_numpy(), np.int64))


def _leading(factors_IF: torch.Tensor, room: int) -> torch.Tensor:
    """Return the factors, rotated to their leading principal components if they are too many."""
    if room == factors_IF.shape[1]:
        return factors_IF
    _, _, directions_FF = torch.linalg.svd(factors_IF, full_matrices=False)
    leading: torch.Tensor = factors_IF @ directions_FF[:room].T
    return leading
