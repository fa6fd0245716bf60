"""Attributes as one code per value, across all fields.

Legend: N users or items, W values of each (padded), V values of all fields.
"""

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from recmeta.metalearn.tensors.encoding import ITEM_ID_FIELD, Encoder, Features, Field
from recmeta.tasks.arrays import IntArray

EDGES = (-1.5, -0.75, 0.0, 0.75, 1.5)
"""The edges of the bins of numbers, in standard deviations from the mean."""


def value_codes(
    fields: Sequence[Field], features: Features, num_rows: int
) -> tuple[torch.Tensor, IntArray]:
    """Return the values (N, W) int64 of users or items, 0 where padded or unknown, and the number
    of each code's field (V,), which has no meaning for code 0.

    An item's id is no attribute, and vectors are left out.

    Args:
        fields: the fields of an encoder.
        features: the users or items, encoded by it.
        num_rows: N.
    """
    parts: list[torch.Tensor] = []
    field_V, num_values = [np.zeros(1, np.int64)], 1
    for number, field in enumerate(fields):
        if field.name == ITEM_ID_FIELD or field.kind == "vector":
            continue
        code = features[field.name]
        if field.kind == "numeric":
            # A missing number was encoded as the mean.
            code = torch.where(code == 0, 0, 1 + torch.bucketize(code, code.new_tensor(EDGES)))
        num_codes = field.num_codes if field.is_coded else len(EDGES) + 2
        code_NW = code.view(
            num_rows, math.prod(code.shape[1:])
        )  # without users, -1 would be ambiguous
        parts.append(torch.where(code_NW > 0, code_NW + (num_values - 1), 0))
        field_V.append(np.full(num_codes - 1, number, np.int64))
        num_values += num_codes - 1
    no_codes = torch.zeros((num_rows, 0), dtype=torch.int64)
    return torch.cat(parts, 1) if parts else no_codes, np.concatenate(field_V)


def profile_codes(encoder: Encoder, profile: pa.Table) -> tuple[torch.Tensor, IntArray]:
    """Return `value_codes` of a table of users."""
    return value_codes(encoder.user_fields, encoder.encode_users(profile), profile.num_rows)
