"""What one request wants of its list: candidates, exclusions, filters on attributes.

Legend: I items, B users.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recmeta.endpoint.answers.models import Filter, Range, Warning_
from recmeta.errors import FieldError, did_you_mean, listed
from recmeta.serving.rules import categories
from recmeta.tasks.arrays import BoolArray, Float64Array, IntArray
from recmeta.tasks.item_files import Items

MOST_WARNINGS = 20
"""The most unknown items of a request that are named."""
MOST_COMPARED = 300
"""The most values of an attribute that are searched for the nearest one."""


class ItemAttributes:
    """The attributes of a catalogue, as filters need them. Each is prepared when it is first
    used."""

    def __init__(self, items: Items) -> None:
        self._items = items
        kinds = {f.name: _kind_of(f.type) for f in items.attributes.schema}
        self.kinds = {name: kind for name, kind in kinds.items() if kind is not None}
        """The kind of filter, `values` or `range`, of each attribute that can be filtered."""
        self.codes = functools.cache(self._read_codes)
        """Of an attribute: (I, W) the values of each item as numbers, -1 where it has no more, and
        the number of each value."""
        self._numbers = functools.cache(self._read_numbers)

    def passing(self, name: str, wanted: Filter) -> BoolArray:
        """Return (I,) which items pass a filter."""
        if isinstance(wanted, Range):
            number_I = self._numbers(name)
            low = -np.inf if wanted.min is None else wanted.min
            high = np.inf if wanted.max is None else wanted.max
            return np.asarray((number_I >= low) & (number_I <= high))  # NaN passes neither
        code_IW, code_of = self.codes(name)
        codes = [code_of[value] for value in wanted if value in code_of]
        return np.asarray(np.isin(code_IW, codes).any(1))

    def _read_codes(self, name: str) -> tuple[IntArray, dict[str, int]]:
        code_IW, vocabulary = categories(self._items, name)
        return code_IW, {value: code for code, value in enumerate(vocabulary)}

    def _read_numbers(self, name: str) -> Float64Array:
        rows = pa.array(self._items.newest())
        column = self._items.attributes[name].combine_chunks().take(rows).cast(pa.float64())
        return np.asarray(pc.fill_null(column, float("nan")).to_numpy(zero_copy_only=False))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Restrictions:
    """What a list may contain, in addition to the rules."""

    candidates: Sequence[str] | None = None
    """If None, any item."""
    exclude: Sequence[str] = ()
    filters: Mapping[str, Filter] = dataclasses.field(default_factory=dict)

    @property
    def is_any(self) -> bool:
        """Whether there is one."""
        return self.candidates is not None or bool(self.exclude) or bool(self.filters)

    def check(self, attributes: ItemAttributes, number_of: Mapping[str, int]) -> list[Warning_]:
        """Return a warning for each name in a request that cannot be found.

        Raises:
            FieldError: for an attribute that items do not have, or of another kind.
        """
        found: list[Warning_] = []
        for place, item_id in enumerate(self.candidates or ()):
            if item_id.strip() not in number_of and len(found) < MOST_WARNINGS:
                detail = f"the catalogue has no item {item_id.strip()!r:.80}; it cannot be ranked."
                found.append(_warning("unknown_item", f"candidates[{place}]", detail))
        for name, wanted in self.filters.items():
            kind = attributes.kinds.get(name)
            if kind is None:
                known = list(attributes.kinds)
                raise FieldError(
                    f"filters.{name}",
                    f"items have no such attribute.{did_you_mean(name, known)} "
                    f"Known: {listed(known)}.",
                )
            if kind != ("range" if isinstance(wanted, Range) else "values"):
                form = "a list of values" if kind == "values" else "a range of min and max"
                raise FieldError(f"filters.{name}", f"it must be {form}.")
            is_first = all(one.code != "unknown_value" for one in found)
            found += _unknown_values(attributes, name, wanted, with_hint=is_first)
        return found

    def allowed(self, attributes: ItemAttributes, number_of: Mapping[str, int]) -> BoolArray:
        """Return (I,) which items may be in the list."""
        allowed_I = np.full(len(number_of), self.candidates is None)
        allowed_I[_numbers_of(self.candidates or (), number_of)] = True
        allowed_I[_numbers_of(self.exclude, number_of)] = False
        for name, wanted in self.filters.items():
            allowed_I &= attributes.passing(name, wanted)
        return allowed_I


NO_RESTRICTIONS = Restrictions()


def _kind_of(kind: pa.DataType) -> str | None:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
        return "values" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else None
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        return "range"
    return "values" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else None


def _unknown_values(
    attributes: ItemAttributes, name: str, wanted: Filter, *, with_hint: bool
) -> list[Warning_]:
    """Return what values no item has. The first may come with what was meant: to look for that is
    slow, and a request could have thousands looked for."""
    if isinstance(wanted, Range):
        return []
    code_of = attributes.codes(name)[1]
    known = list(code_of) if len(code_of) <= MOST_COMPARED else []
    missing = [value for value in wanted if value not in code_of]
    return [
        _warning(
            "unknown_value",
            f"filters.{name}",
            f"no item has the value {value!r:.80}."
            + (did_you_mean(value, known) if with_hint and not place else ""),
        )
        for place, value in enumerate(missing[:MOST_WARNINGS])
    ]


def _warning(code: str, field: str, message: str) -> Warning_:
    return Warning_.model_validate({"code": code, "field": field, "message": message})


def _numbers_of(item_ids: Sequence[str], number_of: Mapping[str, int]) -> IntArray:
    found = (number_of.get(item_id.strip(), -1) for item_id in item_ids)
    return np.array([number for number in found if number >= 0], np.int64)
