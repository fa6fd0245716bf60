"""The ids of items and users as another file spells them.

A column of whole numbers with a gap in it is one of floats to pandas and to spreadsheets, which
write 10 as `10.0`; and some systems write é as one letter, others as a letter and its accent. Such
a spelling means the item that the catalogue has.
"""

import re
import unicodedata

import numpy as np
import pyarrow as pa

from recmeta.errors import UserError, did_you_mean, shown
from recmeta.metalearn.tensors.lookup import Lookup
from recmeta.tasks.arrays import IntArray
from recmeta.tasks.item_files import Items

_WHOLE = re.compile(r"(-?\d+)\.0+")


def spellings(id_: str) -> list[str]:
    """Return an id and its possible spellings in a log; the id itself comes first."""
    whole = _WHOLE.fullmatch(id_)
    others = [whole[1]] if whole else []
    if not id_.isascii():
        others += [unicodedata.normalize(form, id_) for form in ("NFC", "NFD")]
    return list(dict.fromkeys([id_, *others]))


def numbers_of(lookup: Lookup, asked: pa.Array) -> IntArray:
    """Return each id's position in a catalogue, (N,), in any spelling; -1 if it is unknown or
    null."""
    number_N = lookup.numbers_of(asked).copy()
    missed_N = (number_N < 0) & asked.is_valid().to_numpy(zero_copy_only=False)
    if not missed_N.any():
        return number_N
    missed = asked.filter(pa.array(missed_N)).dictionary_encode()
    of_each = [_number_of(lookup, item_id) for item_id in missed.dictionary.to_pylist()]
    number_N[missed_N] = np.array(of_each, np.int64)[missed.indices.to_numpy()]
    return number_N


def number_of(items: Items, lookup: Lookup, item_id: str) -> int:
    """Return one id's position in a catalogue, in any spelling.

    Raises:
        UserError: if the catalogue does not have it; the message names what may be meant.
    """
    number = int(numbers_of(lookup, pa.array([item_id], pa.string()))[0])
    if number >= 0:
        return number
    meant = of_title(items, item_id)
    hint = (
        f": it is the title of the item {shown(meant)}."
        if meant is not None
        else f".{did_you_mean(item_id, items.item_id.to_pylist())}"
    )
    raise UserError(f"the model's catalogue has no item {shown(item_id)}{hint}")


def of_title(items: Items, text: str) -> str | None:
    """Return the id of the first item with a title; None if no item has it."""
    titles = items.titles()
    if titles is None:
        return None
    place = titles.cast(pa.string()).index(text).as_py()
    found: str | None = None if place < 0 else items.item_id[place].as_py()
    return found


def _number_of(lookup: Lookup, item_id: str) -> int:
    others = spellings(item_id)[1:]
    found = lookup.numbers_of(pa.array(others, pa.string())) if others else np.zeros(0, np.int64)
    return int(next((number for number in found if number >= 0), -1))
