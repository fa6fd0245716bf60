"""Text files, opened in the encoding that is detected."""

import codecs
import contextlib
from collections.abc import Iterator
from typing import Any

from recmeta.errors import UserError
from recmeta.logs.mapping import DEFAULT_ENCODING, Source
from recmeta.logs.reading.log_format import SourceFile
from recmeta.logs.reading.packing import check_is_text

HEAD_BYTES = 4096
MAX_ZEROS = 0.1
"""The largest share of zero bytes among the first ones, since a text may have a few by mistake."""
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@contextlib.contextmanager
def opened(source: Source, file: SourceFile) -> Iterator[tuple[Any, str]]:
    """Yield a stream of a text file and its encoding: the source's, or UTF-16 or UTF-32 where the
    source names none and the file shows one.

    Raises:
        UserError: if the file is of another kind, which the message names.
    """
    with file.open() as stream:
        head = stream.peek(HEAD_BYTES)
        check_is_text(head, file.name)
        seen, own = encoding_of(head), source.encoding
        if seen is None and head.count(0) > MAX_ZEROS * len(head) and own == DEFAULT_ENCODING:
            raise UserError(f"{file.name!r} is not text: it has more zero bytes than text does.")
        yield stream, (seen or own) if own == DEFAULT_ENCODING else own


def encoding_of(head: bytes) -> str | None:
    """Return the encoding that the first bytes of a text show, if its units are not single
    bytes."""
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    pairs = len(head) // 2
    even, odd = head[: 2 * pairs : 2].count(0), head[1 : 2 * pairs : 2].count(0)
    if pairs and odd > 0.8 * pairs and even < 0.2 * pairs:
        return "utf-16-le"
    if pairs and even > 0.8 * pairs and odd < 0.2 * pairs:
        return "utf-16-be"
    return None
