"""Which user a quarantined row belongs to.

For most rows the quarantine has the user's id, in the spelling of the row's source. The fields of
the other rows could not be separated; such a row counts as belonging to every user whose id occurs
in it, in any of the spellings that logs use.
"""

import functools
import html
import re
import unicodedata
import urllib.parse
from collections.abc import Collection, Iterator

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import dataset

from recmeta.schema import RAW, RULES, USER_ID

MISSING_USER = f"missing_{USER_ID}"
"""The rule that a row breaks if its user's field could be read and is empty; it belongs to
nobody."""
MAX_SPELLINGS = 256
"""The most readings of one text that are examined: no log has so many layers of escapes."""
_CODECS = ("utf-8", "latin-1", "cp1252", "utf-16-le", "utf-16-be", "shift_jis", "gb18030", "euc_kr")
_ESCAPED_BYTES = re.compile(r"\\x([0-9a-fA-F]{2})")
_ESCAPED_UNITS = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")
_ESCAPED_LETTER = re.compile(r"\\([^u])", re.DOTALL)
_LETTERS = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
_LETTERS_OF_BYTES = re.compile(r"[^\0-\x7f]+")
_PLAIN = re.compile(r"[A-Za-z0-9 ,;:.|\t_-]*")
"""Texts with only one spelling."""


def of_users(rows: dataset.Dataset, user_ids: Collection[str]) -> pc.Expression:
    """Return an expression that is true for the rows of some users, and never null.

    Args:
        rows: the quarantine. One of an earlier version of recmeta has no users' ids.
    """
    has_ids = USER_ID in rows.schema.names
    user_id = pc.field(USER_ID).cast(pa.string())
    unread = user_id.is_null() if has_ids else pc.scalar(True)
    looked_at = rows.to_batches(columns=[RAW, RULES], filter=unread)
    mentioning = {
        raw
        for batch in looked_at
        for raw, rules in zip(batch[RAW].to_pylist(), batch[RULES].to_pylist(), strict=True)
        if MISSING_USER not in rules and mentions(raw, user_ids)
    }
    found = unread & pc.field(RAW).cast(pa.string()).isin(_values(mentioning))
    if not has_ids:
        return found
    # Where bytes were of another encoding than the source's, the id was read with them as `\xNN`.
    garbled = user_id.is_valid() & pc.match_substring(pc.coalesce(user_id, pc.scalar("")), r"\x")
    read = {
        user
        for batch in rows.to_batches(columns=[USER_ID], filter=garbled)
        for user in batch[USER_ID].to_pylist()
        if not set(spellings(user)).isdisjoint(user_ids)
    }
    return found | user_id.isin(_values({*user_ids, *read}))


def mentions(text: str, user_ids: Collection[str]) -> bool:
    """Return whether an id occurs in a text, in any spelling, and not as a part of a word."""
    either = "|".join(re.escape(_composed(user_id)) for user_id in sorted(user_ids))
    # What could not be decoded was a letter, too.
    words = re.compile(rf"(?<![\w\ufffd])(?:{either})(?![\w\ufffd]|\\x[0-9a-f]{{2}})")
    return any(words.search(_composed(spelled)) for spelled in spellings(text))


def spellings(text: str) -> list[str]:
    """Return a text and its possible meanings: with escapes of JSON, CSV, URLs and HTML undone,
    with bytes read in another encoding, and with these nested."""
    found = {text: None}
    waiting = [] if _PLAIN.fullmatch(text) else [text]
    while waiting and len(found) < MAX_SPELLINGS:
        spelled = waiting.pop(0)
        for undone in _undone(spelled):
            if undone not in found:
                found[undone] = None
                waiting.append(undone)
    return list(found)


def _undone(text: str) -> Iterator[str]:
    yield _ESCAPED_UNITS.sub(_unescaped_units, text)
    yield _ESCAPED_LETTER.sub(lambda match: _LETTERS.get(match[1], match[1]), text)
    yield text.replace('""', '"').replace("''", "'")
    yield html.unescape(text)
    yield text.replace("\0", "")
    if "%" in text:
        yield urllib.parse.unquote(text, errors="surrogateescape")
        yield urllib.parse.unquote(text, encoding="latin-1")
    if "\0" in text or _ESCAPED_BYTES.search(text):
        # Bytes that were not of the encoding stand as the reader marks them.
        whole = text.encode("utf-8", "surrogatepass")
        content = re.sub(rb"\\x([0-9a-fA-F]{2})", lambda m: bytes.fromhex(m[1].decode()), whole)
        for codec in _CODECS:  # never dropping a byte, or the rest might be somebody else's id
            yield content.decode(codec, "replace")
    if not text.isascii():  # UTF-8 that was read as an encoding of a byte a letter
        for codec in ("latin-1", "cp1252"):
            yield _LETTERS_OF_BYTES.sub(functools.partial(_as_utf8, codec), text)


def _unescaped_units(match: re.Match[str]) -> str:
    """Return the letters of `\\uNNNN`, of which two may make one."""
    units = bytes.fromhex(match[0].replace("\\u", ""))
    return units.decode("utf-16-be", "replace")


def _as_utf8(codec: str, letters: re.Match[str]) -> str:
    """Return what letters were before their bytes were read as another encoding."""
    try:
        return letters[0].encode(codec).decode("utf-8")
    except UnicodeError:
        return letters[0]


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _values(texts: Collection[str]) -> pa.Array:
    return pa.array(sorted(texts), pa.string())
