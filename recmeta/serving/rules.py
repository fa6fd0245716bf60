"""Business rules: which items may be in a list at all, and how a list is built.

Legend: I items, W longest list of an item's categories.
"""

import dataclasses
import math
from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recmeta import schema
from recmeta.errors import UserError, did_you_mean, listed
from recmeta.serving.spelling import spellings
from recmeta.tasks.arrays import BoolArray, IntArray, positions_of
from recmeta.tasks.item_files import Items

LONGEST_AGE = 365_000
"""A number of days, some thousand years, that is longer than any log."""


MOST_NAMED = 5
"""The most items of a rule that the catalogue does not have and that are named."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """Rules that hold for every list. The defaults set none."""

    deny: str | None = None
    """A file of items that no list may have: one id per line (`#` begins a remark), a JSON array,
    or a table with a column `item_id`."""
    allow: str | None = None
    """A file of the only items that lists may have, in the same form."""
    unavailable: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """The values of categorical or multi-valued attributes whose items are left out, such as
    `{status = ["sold out"]}`."""
    at_least: dict[str, float] = dataclasses.field(default_factory=dict)
    """The smallest value of a numeric attribute that an item must have, such as `{release_year =
    1995}`. Items without a value are left out."""
    max_age_days: int | None = None
    """The greatest number of days since an item's first interaction. Older items are left out; an
    item without interactions counts as new."""
    max_per_category: dict[str, int] = dataclasses.field(default_factory=dict)
    """How many items with the same value of an attribute a list may have."""
    diversity: float = 0.0
    """The weight, from 0 to below 1, of an item's similarity to the items above it, against its
    rank: maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998). With 0 the ranker's
    order is kept."""
    candidates: int = 100
    """The number of best items from which `max_per_category` and `diversity` choose. More are
    fetched for a user for whom these are too few to fill the list."""
    max_uncertainty: float | None = None
    """The greatest standard deviation of a listed item's score, in units of the value. Less certain
    items are replaced by popular ones."""
    min_interactions: int = 0
    """The least number of known interactions for a personal list. A user with fewer gets a list of
    popular items."""

    def __post_init__(self) -> None:
        if not 0 <= self.diversity < 1:
            raise UserError(f"diversity is {self.diversity}; it must be from 0 to below 1.")
        if self.candidates < 1:
            raise UserError(f"candidates is {self.candidates}; it must be at least 1.")
        for name, most in self.max_per_category.items():
            if most < 1:
                raise UserError(f"max_per_category.{name} is {most}; it must be at least 1.")
        if self.max_uncertainty is not None and not 0 < self.max_uncertainty < math.inf:
            raise UserError(
                f"max_uncertainty is {self.max_uncertainty}; it must be positive and finite."
            )
        if self.max_age_days is not None and not 0 <= self.max_age_days <= LONGEST_AGE:
            raise UserError(
                f"max_age_days is {self.max_age_days}; it must be from 0 to {LONGEST_AGE:,}."
            )
        if self.min_interactions < 0:
            raise UserError(
                f"min_interactions is {self.min_interactions}; it must not be negative."
            )
        for name, least in self.at_least.items():
            if not math.isfinite(least):
                raise UserError(f"at_least.{name} is {least}; it must be finite.")

    @property
    def rearrange(self) -> bool:
        """Whether lists differ from the ranker's best items."""
        return bool(self.diversity or self.max_per_category) or self.falls_back

    @property
    def falls_back(self) -> bool:
        """Whether popular items may take places."""
        return self.max_uncertainty is not None or self.min_interactions > 0


@dataclasses.dataclass(frozen=True)
class ItemFacts:
    """Facts about items that rules need and the catalogue does not have."""

    denied: Collection[str] = ()
    allowed: Collection[str] | None = None
    """If None, all."""
    too_old: Collection[str] = ()


def eligible_items(items: Items, rules: Rules, facts: ItemFacts) -> BoolArray:
    """Return (I,) which items may be in a list.

    Raises:
        UserError: for an attribute that items do not have, or that is of another kind, and for a
            list of allowed items of which the catalogue has none.
    """
    is_eligible_I = ~_among(items, facts.denied) & ~_among(items, facts.too_old)
    if facts.allowed is not None:
        is_allowed_I = _among(items, facts.allowed)
        if not is_allowed_I.any():
            such_as = f", such as {listed(sorted(facts.allowed)[:3])}" if facts.allowed else ""
            raise UserError(
                f"allow names {len(facts.allowed):,} items{such_as}, but the model's catalogue has "
                "none of them, so every list would be empty: it must hold item ids as the log has "
                f"them, such as {listed(items.item_id[:3].to_pylist())}."
            )
        is_eligible_I &= is_allowed_I
    for name, values in rules.unavailable.items():
        code_IW, vocabulary = categories(items, name)
        wanted = np.flatnonzero(np.isin(vocabulary, values))
        is_eligible_I &= ~np.isin(code_IW, wanted).any(1)
    for name, least in rules.at_least.items():
        column = _attribute(items, name)
        if not pa.types.is_floating(column.type) and not pa.types.is_integer(column.type):
            raise UserError(f"at_least.{name}: the attribute {name!r} of items is not numeric.")
        at_least = pc.fill_null(pc.greater_equal(column.cast(pa.float64()), least), False)
        is_eligible_I &= at_least.to_numpy(zero_copy_only=False)
    return np.asarray(is_eligible_I)


def unmatched(items: Items, ids: Collection[str]) -> list[str]:
    """Return the ids, sorted, that no item has in any spelling."""
    known = set(items.item_id.to_pylist())
    return sorted(item_id for item_id in ids if known.isdisjoint(spellings(item_id)))


def remark_on_unmatched(rule: str, number: int, named: Sequence[str]) -> str:
    """Return a sentence about items of a rule that the catalogue does not have.

    Args:
        number: how many there are.
        named: the first of them.
    """
    return (
        f"{rule}: {number:,} of its items {'is' if number == 1 else 'are'} not in the model's "
        f"catalogue: {listed(named)}{', …' if number > len(named) else ''}."
    )


def categories(items: Items, name: str) -> tuple[IntArray, list[str]]:
    """Return (I, W) each item's values of an attribute as numbers, -1 where it has no more, and the
    values by number.

    Raises:
        UserError: for an attribute that items do not have.
    """
    column = _attribute(items, name)
    is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    if is_list:
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
        flat = column.flatten()
    else:
        lengths, flat = np.ones(len(column), np.int64), column
    encoded = flat.cast(pa.string()).dictionary_encode()
    code_N = pc.fill_null(encoded.indices, -1).to_numpy().astype(np.int64)
    code_IW = np.full((len(column), max(1, int(lengths.max(initial=0)))), -1, np.int64)
    row_N = np.repeat(np.arange(len(column)), lengths)
    place_N = positions_of(lengths)
    code_IW[row_N, place_N] = code_N
    return code_IW, encoded.dictionary.to_pylist()


def kinds(items: Items) -> list[str]:
    """Return the attributes that describe an item: those with recurring values."""
    found = []
    for name in items.attributes.column_names:
        kind = items.attributes.schema.field(name).type
        if pa.types.is_floating(kind) or pa.types.is_integer(kind) or name == schema.TITLE:
            continue
        code_IW, vocabulary = categories(items, name)
        if 2 * len(vocabulary) <= max(int((code_IW >= 0).sum()), 1):
            found.append(name)
    return found


def kind_codes(items: Items) -> IntArray:
    """Return (I, W) the kinds of items: the values of all attributes whose values recur.

    Raises:
        UserError: if there are none.
    """
    parts, first = [], 0
    for name in kinds(items):
        code_IW, vocabulary = categories(items, name)
        parts.append(np.where(code_IW >= 0, code_IW + first, -1))
        first += len(vocabulary)
    if not parts:
        raise UserError(
            "diversity is set, but the items have no categorical or multi-valued attribute to "
            "compare: leave it out, or ingest the log with --items."
        )
    return np.concatenate(parts, 1)


def _attribute(items: Items, name: str) -> pa.Array:
    known = items.attributes.column_names
    if name not in known:
        raise UserError(
            f"a rule names {name!r}, which is not an attribute of "
            f"items.{did_you_mean(name, known)} There are: {listed(known)}."
        )
    return items.attributes[name].combine_chunks().take(pa.array(items.newest()))


def _among(items: Items, ids: Collection[str]) -> BoolArray:
    spelled = {spelling for item_id in ids for spelling in spellings(item_id)}
    found = pc.is_in(items.item_id, value_set=pa.array(sorted(spelled), items.item_id.type))
    return np.asarray(found.to_numpy(zero_copy_only=False))
