"""The encoding of raw attributes as tensors: vocabularies and scales, learned from the
meta-training users only.

The encoder belongs to a model. Any later task set, catalogue or new user goes through the encoder
of the model that will read it; a value that it never saw becomes the code 0, "unknown".
"""

import dataclasses
import functools
import io
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc
import torch

from recmeta import schema
from recmeta.errors import UserError, did_you_mean
from recmeta.metalearn.tensors.lookup import Lookup
from recmeta.metalearn.tensors.vectors import (
    is_vector,
    principal_components,
    raw_vectors,
    read_vectors,
)
from recmeta.tasks import scratch
from recmeta.tasks.arrays import Float32Array, IntArray, positions_of
from recmeta.workspace import arrow_table

Kind = Literal["categorical", "multi", "numeric", "vector"]
Features = dict[str, torch.Tensor]
"""Encoded attributes by field name: categorical (N,) int64; multi (N, W) int64, 0 is padding;
numeric (N,) float32; vector (N, W) float32."""

ITEM_ID_FIELD = "item_id"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """Which attributes a model reads."""

    user_features: tuple[str, ...] | None = None
    """The names of the user attributes that are read; if not set, all that are not free text."""
    item_features: tuple[str, ...] | None = None
    """The names of the item attributes that are read; if not set, all that are not free text."""
    use_item_id: bool = True
    """Whether each item that training users met has an embedding of its own."""
    max_categories: int = 20_000
    """The number of a field's most frequent values that are kept; the others are read as
    unknown."""
    max_list_length: int = 16
    """The number of values of a multi-valued attribute that are read; the others are dropped."""
    vector_dim: int = 64
    """The number of principal components of a vector, such as that of a text, that are read; the
    others are dropped."""


@dataclasses.dataclass(frozen=True)
class Field:
    """One attribute and its encoding."""

    name: str
    kind: Kind
    values: tuple[str, ...] = ()
    """The known values; value i has code i + 1."""
    mean: float = 0.0
    scale: float = 1.0
    width: int = 1
    """The length of the longest list of a multi-valued field, or the number of components of a
    vector."""
    components: bytes = b""
    """The map of a vector to its principal components, (W + 1, width) float32, row by row."""

    @property
    def num_codes(self) -> int:
        """The number of codes, including 0 for unknown."""
        return len(self.values) + 1

    @property
    def is_coded(self) -> bool:
        """Whether its values are codes rather than numbers."""
        return self.kind in ("categorical", "multi")

    @property
    def num_rows(self) -> int:
        """The number of rows of a table of the field's effects: one per code, or one per number."""
        return self.num_codes if self.is_coded else self.width

    @functools.cached_property
    def lookup(self) -> Lookup:
        """The look-up of the known values."""
        return Lookup(pa.array(self.values, pa.string()))


@dataclasses.dataclass(frozen=True)
class Encoder:
    """The fields of users and items that a model reads, and the scale of values."""

    user_fields: tuple[Field, ...]
    item_fields: tuple[Field, ...]
    value_mean: float
    """The mean value of the meta-training users' interactions."""
    value_scale: float
    """Their standard deviation, in units of the value; 1 for implicit feedback."""

    @classmethod
    def fit(
        cls,
        profile: pa.Table,
        item_id: pa.Array,
        attributes: pa.Table,
        values: Float32Array | None,
        config: FeatureConfig,
        earlier: "Encoder | None" = None,
    ) -> "Encoder":
        """Return an encoder with vocabularies and scales learned from the meta-training users.

        Args:
            profile: raw attributes of the meta-training users, one row per user.
            item_id: ids of the items that they met, aligned with `attributes`.
            attributes: raw attributes of those items.
            values: every value that they gave, or None for implicit feedback, whose values stay 0
                and 1.
            earlier: the encoder whose components of vectors are kept, so that parameters keep their
                meaning.

        Raises:
            UserError: for a configured attribute that is not in the tables.
        """
        item_fields = _fit_fields(attributes, config.item_features, "item", config)
        if config.use_item_id:
            ids = tuple(pc.unique(item_id).sort().to_pylist())
            item_fields = (*item_fields, Field(ITEM_ID_FIELD, "categorical", ids))
        if earlier is not None:
            item_fields = _with_components(item_fields, earlier.item_fields)
        graded = np.zeros(0, np.float32) if values is None else scratch.thinned(values)
        spread = float(np.std(graded)) if len(graded) else 0.0
        return cls(
            _fit_fields(
                profile.drop_columns([schema.USER_ID]), config.user_features, "user", config
            ),
            item_fields,
            float(np.mean(graded)) if len(graded) else 0.0,
            spread if spread > 1e-6 else 1.0,
        )

    def encode_users(self, profile: pa.Table) -> Features:
        """Return the features of a table of users. An absent attribute is unknown."""
        return _encode_all(self.user_fields, profile, profile.num_rows)

    def encode_items(self, item_id: pa.Array, attributes: pa.Table) -> Features:
        """Return the features of items, one per row. An absent attribute is unknown."""
        encoded = _encode_all(self.item_fields, attributes, len(item_id))
        for field in self.item_fields:
            if field.name == ITEM_ID_FIELD:
                encoded[field.name] = _encode(field, item_id)
        return encoded

    def to_bytes(self) -> bytes:
        """Return the encoder as an Arrow file."""
        rows = [("user", f) for f in self.user_fields] + [("item", f) for f in self.item_fields]
        table = pa.table(
            {
                "side": pa.array([side for side, _ in rows], pa.string()),
                "name": pa.array([f.name for _, f in rows], pa.string()),
                "kind": pa.array([f.kind for _, f in rows], pa.string()),
                "values": pa.array([f.values for _, f in rows], pa.list_(pa.string())),
                "mean": pa.array([f.mean for _, f in rows], pa.float64()),
                "scale": pa.array([f.scale for _, f in rows], pa.float64()),
                "width": pa.array([f.width for _, f in rows], pa.int32()),
                "components": pa.array([f.components for _, f in rows], pa.binary()),
            }
        ).replace_schema_metadata(
            {"value_mean": repr(self.value_mean), "value_scale": repr(self.value_scale)}
        )
        sink = io.BytesIO()
        with ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        return sink.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Encoder":
        """Return the encoder that `to_bytes` wrote. Raises Broken if it is not a complete Arrow
        file."""
        table = arrow_table(pa.py_buffer(content), "the encoder's file")
        sides: dict[str, list[Field]] = {"user": [], "item": []}
        for row in table.to_pylist():  # one row per field, not per user
            side = row.pop("side")
            sides[side].append(Field(**{**row, "values": tuple(row["values"])}))
        metadata = table.schema.metadata
        return cls(
            tuple(sides["user"]),
            tuple(sides["item"]),
            float(metadata[b"value_mean"]),
            float(metadata[b"value_scale"]),
        )


def _fit_fields(
    table: pa.Table, names: tuple[str, ...] | None, side: str, config: FeatureConfig
) -> tuple[Field, ...]:
    if names is None:
        chosen = [n for n in table.column_names if not _is_free_text(table[n])]
    else:
        for name in names:
            if name not in table.column_names:
                raise UserError(
                    f"{side}_features names {name!r}, which is not an attribute of a {side}."
                    f"{did_you_mean(name, table.column_names)} "
                    f"There are: {', '.join(table.column_names) or 'none'}."
                )
        chosen = list(names)
    return tuple(_fit_field(n, table[n].combine_chunks(), config) for n in chosen)


def _fit_field(name: str, column: pa.Array, config: FeatureConfig) -> Field:
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        numbers = column.cast(pa.float64()).drop_null()
        numbers = numbers.filter(pc.is_finite(numbers)).to_numpy()
        spread = float(numbers.std()) if len(numbers) else 0.0
        mean = float(numbers.mean()) if len(numbers) else 0.0
        return Field(name, "numeric", (), mean, spread if spread > 1e-12 else 1.0)
    if _is_list(column.type):
        lengths = pc.list_value_length(column).drop_null()
        longest = int(pc.max(lengths).as_py() or 0) if len(lengths) else 0
        width = max(1, min(longest, config.max_list_length))
        return Field(name, "multi", _vocabulary(column.flatten(), config), width=width)
    if is_vector(column.type):
        found = principal_components(raw_vectors(column), config.vector_dim)
        return Field(name, "vector", width=found.shape[1], components=found.tobytes())
    return Field(name, "categorical", _vocabulary(column, config))


def _with_components(fields: tuple[Field, ...], earlier: tuple[Field, ...]) -> tuple[Field, ...]:
    """Return fields whose vectors keep the components of earlier fields of the same name and
    shape."""
    known = {(f.name, f.width, len(f.components)): f for f in earlier if f.kind == "vector"}
    return tuple(known.get((f.name, f.width, len(f.components)), f) for f in fields)


def _vocabulary(values: pa.Array, config: FeatureConfig) -> tuple[str, ...]:
    """Return the most frequent values, sorted by name so that equal data give equal codes."""
    counts = pc.value_counts(values.cast(pa.string()).drop_null())
    table = pa.table({"value": counts.field("values"), "count": counts.field("counts")})
    table = table.sort_by([("count", "descending"), ("value", "ascending")])
    return tuple(sorted(table["value"].slice(0, config.max_categories).to_pylist()))


def _is_free_text(column: pa.ChunkedArray) -> bool:
    """Return whether most values occur once: a title or a postcode, not a category."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return False
    present = len(column) - column.null_count
    return bool(present == 0 or pc.count_distinct(column).as_py() > max(0.5 * present, 1))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _encode_all(fields: tuple[Field, ...], table: pa.Table, num_rows: int) -> Features:
    """Return the features of a table. The number of rows is given, because a table without columns
    does not have it."""
    known = set(table.column_names)
    return {
        f.name: _encode(
            f, table[f.name].combine_chunks() if f.name in known else pa.nulls(num_rows)
        )
        for f in fields
    }


def _encode(field: Field, column: pa.Array) -> torch.Tensor:
    if field.kind == "numeric":
        numbers = pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy()
        scaled = np.clip((numbers - field.mean) / field.scale, -5.0, 5.0)
        return torch.from_numpy(np.nan_to_num(scaled).astype(np.float32))
    if field.kind == "vector":
        components = np.frombuffer(field.components, np.float32).reshape(-1, field.width)
        return torch.from_numpy(read_vectors(field.name, column, components))
    if field.kind == "categorical":
        return torch.from_numpy(_codes(column, field))
    if pa.types.is_null(column.type):
        return torch.zeros((len(column), field.width), dtype=torch.int64)
    if not _is_list(column.type):  # a single value in place of a list is a list of one
        codes = _codes(column, field)
        padded = np.zeros((len(column), field.width), np.int64)
        padded[:, 0] = codes
        return torch.from_numpy(padded)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
    flat = _codes(column.flatten(), field)
    row = np.repeat(np.arange(len(column)), lengths)
    place = positions_of(lengths)
    keep = (place < field.width) & (flat > 0)
    padded = np.zeros((len(column), field.width), np.int64)
    padded[row[keep], place[keep]] = flat[keep]
    return torch.from_numpy(padded)


def _codes(values: pa.Array, field: Field) -> IntArray:
    return field.lookup.numbers_of(values) + 1
