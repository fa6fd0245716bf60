"""What a graph reads about a user: the known rows, and the codes of the profile.

Legend: R known rows (padded), W codes of a field, C numbers that a field adds, V values.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from recmeta.errors import UserError
from recmeta.exporting.graph import Graph, Input, Value
from recmeta.metalearn.learner import Params
from recmeta.metalearn.model import Model
from recmeta.metalearn.tensors.encoding import Field
from recmeta.metalearn.tensors.value_codes import EDGES

ITEM, VALUE, MASK, TOP_K = "item", "value", "mask", "top_k"
"""Names of a graph's inputs."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class KnownUser:
    """One user, as values of a graph."""

    graph: Graph
    item_R: Value
    """int64, places in the catalogue, the oldest row first; any where padded."""
    is_known_R: Value
    """bool, false where padded."""
    given_R: Value
    """float32, in units of the value; 1 of implicit feedback."""
    value_R: Value
    """float32, in units of the model."""
    profile: Mapping[str, Value]
    """As the encoder encodes the fields: int64 codes, float32 numbers."""

    @property
    def counts_R(self) -> Value:
        """float32, 1 for each row and 0 for padding."""
        return self.is_known_R.to(np.float32)

    @property
    def num_rows_1(self) -> Value:
        """float32, the number of rows, in a vector of one."""
        return self.counts_R.sum(0, keeps=True)


def profile_input(field: Field) -> str:
    """Return the name of the input for an attribute of the profile."""
    return f"profile.{field.name}"


def inputs_of(model: Model) -> dict[str, Input]:
    """Return the inputs of a model's graph.

    Raises:
        UserError: for an attribute of users that no device could encode.
    """
    found = {ITEM: Input(np.int64, ("rows",)), MASK: Input(np.bool_, ("rows",))}
    if model.objective == "rating":
        found[VALUE] = Input(np.float32, ("rows",))
    for field in model.encoder.user_fields:
        if field.kind == "vector":
            raise UserError(
                f"the model reads {field.name!r} of users, a vector such as that of a text, which "
                "no graph encodes: train without it (features.user_features)."
            )
        kind = np.float32 if field.kind == "numeric" else np.int64
        found[profile_input(field)] = Input(kind, (field.width if field.kind == "multi" else 1,))
    found[TOP_K] = Input(np.int64, (1,))
    return found


def known_user(graph: Graph, model: Model) -> KnownUser:
    """Return what the inputs of a model's graph say of a user.

    A row of padding joins them: products of no rows fail in some versions of ONNX Runtime.
    """
    inputs = graph.inputs
    mask_R = graph.joined(inputs[MASK], graph.constant(np.zeros(1, np.bool_)))
    item_R = graph.joined(inputs[ITEM], graph.integers([0]))
    if model.objective == "rating":
        given_R = graph.joined(inputs[VALUE], graph.constant(np.zeros(1, np.float32)))
        mean, scale = model.encoder.value_mean, model.encoder.value_scale
        value_R = ((given_R.to(np.float64) - mean) / scale).to(np.float32)
    else:
        given_R = value_R = mask_R.to(np.float32)
    fields = model.encoder.user_fields
    return KnownUser(
        graph=graph,
        item_R=item_R,
        is_known_R=mask_R,
        given_R=given_R,
        value_R=value_R,
        profile={f.name: _encoded(graph, f, inputs[profile_input(f)]) for f in fields},
    )


def _encoded(graph: Graph, field: Field, given: Value) -> Value:
    """Return a field as the encoder encodes it: numbers scaled, one that is missing is the mean."""
    if field.kind != "numeric":
        return given
    scaled = ((given.to(np.float64) - field.mean) / field.scale).clipped(-5.0, 5.0)
    is_missing = graph.op("IsNaN", given, kind=np.bool_)
    nothing = graph.constant(np.zeros(1), "zeros")
    return graph.where(is_missing, nothing, scaled).to(np.float32)


def looked_up(
    user: KnownUser, field: Field, table: torch.Tensor, *, reads_unknown: bool = False
) -> Value:
    """Return (C,) what a field of the profile adds: a number times its row, a code's row, the mean
    of a list's.

    Args:
        table: a row per code, or per number.
        reads_unknown: whether the row of code 0 is read where a category is not known.
    """
    graph, code_W = user.graph, user.profile[field.name]
    rows = graph.constant(table.detach().cpu().numpy(), field.name)
    if field.kind == "numeric":
        return code_W * rows.reshaped(-1)
    found_WC = rows.rows(code_W)
    if field.kind == "categorical" and reads_unknown:
        return found_WC.sum(0)
    is_value_W = (code_W > 0).to(np.float32)
    total_C = (found_WC * is_value_W.reshaped(-1, 1)).sum(0)
    return total_C / is_value_W.sum(0, keeps=True).clipped(1.0)


def value_codes_of(user: KnownUser, fields: Sequence[Field]) -> Value | None:
    """Return (W,) the profile as one code per value, 0 where there is none that is known; None
    without fields. See `recmeta.metalearn.tensors.value_codes`."""
    graph, parts, num_values = user.graph, list[Value](), 1
    for field in fields:
        code = user.profile[field.name]
        if field.kind == "numeric":
            edges = graph.constant(np.array(EDGES, np.float32), "edges")
            above = (code.reshaped(1, 1) > edges.reshaped(1, -1)).to(np.int64)
            zero = graph.integers([0])
            code = graph.where(code.equals(0.0), zero, above.sum(1) + 1)
        num_codes = field.num_codes if field.is_coded else len(EDGES) + 2
        parts.append(graph.where(code > 0, code + (num_values - 1), 0))
        num_values += num_codes - 1
    return graph.joined(*parts) if parts else None


def array(params: Params, name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a parameter as an array."""
    return np.asarray(params[name].detach().cpu().numpy(), np.float32)


def number(params: Params, name: str) -> float:
    """Return a parameter that is one number."""
    found = float(params[name])
    assert math.isfinite(found), name
    return found
