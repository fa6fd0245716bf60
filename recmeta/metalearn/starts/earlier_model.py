"""A start for meta-training from an earlier model, so that only what is new must be learned."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from recmeta.errors import UserError
from recmeta.metalearn.learner import Params
from recmeta.metalearn.starts.beginning import Built
from recmeta.metalearn.tensors.encoding import Field

Rescale = Callable[[Params, float, float], Params]
"""Returns parameters for values v' = ratio · v + shift that predict as the given ones do of v."""


def start_from_model(built: Built, params: Params, earlier: Built, rescaled: Rescale) -> Params:
    """Return the parameters of an earlier model, as far as they fit the new one.

    A value in both vocabularies keeps its embedding; a new value has the fresh one of `params`.

    Args:
        rescaled: returns parameters whose outputs mean the same in units of the value after its
            scale has changed.

    Raises:
        UserError: if the earlier model has other features or another shape.
    """
    started = dict(params)
    transferred = set[str]()
    for side, fields, known in (
        ("user", built.encoder.user_fields, earlier.encoder.user_fields),
        ("item", built.encoder.item_fields, earlier.encoder.item_fields),
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
    ratio = earlier.encoder.value_scale / built.encoder.value_scale
    shift = (earlier.encoder.value_mean - built.encoder.value_mean) / built.encoder.value_scale
    return rescaled(started, ratio, shift)


def _learned(earlier: Built, name: str, fresh: torch.Tensor) -> torch.Tensor:
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
    """Return an embedding table with the learned rows for values that were known."""
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
