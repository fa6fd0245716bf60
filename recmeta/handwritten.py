"""Text that people write by hand, read as their editors save it.

Lists of items, API keys, mappings, configurations and search spaces come out of Notepad, Excel or
a shell's `>`: with a byte order mark or without, as UTF-8 or UTF-16, with the line ends of Windows.
What is in them decides what is published, so that nothing of this may change what they say.
"""

import codecs
import re
from pathlib import Path

from recmeta.errors import UserError

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # first: it begins as that of UTF-16 does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
"""What a file begins with, and the encoding that this means."""
_QUOTES = ('"', "'")


def read_text(path: Path, what: str) -> str:
    """Return the text of a file, without a byte order mark and with plain line ends.

    Args:
        path: of the file; `~` is the home folder.
        what: the file is, for messages.

    Raises:
        UserError: where it cannot be read, or is not text in UTF-8 or UTF-16.
    """
    try:
        data = path.expanduser().read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read the {what} {str(path)!r}: {reason}.") from error
    encoding = _encoding_of(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(
            f"the {what} {str(path)!r} is neither UTF-8 nor UTF-16 (line {line}): save it as "
            "UTF-8, which every editor offers, and name that."
        ) from error
    if "\0" in text:
        raise UserError(
            f"the {what} {str(path)!r} is not text: write it with a text editor, and save it as "
            "UTF-8."
        )
    return re.sub("\r\n?", "\n", text)


def lines(text: str) -> list[str]:
    """Return what stands on each line, without blanks around it or the quotes that a spreadsheet
    puts there."""
    return [_unquoted(line.strip()) for line in text.split("\n")]


def _encoding_of(data: bytes) -> str:
    """Return a file's encoding by its mark or, without one, by where its zero bytes are."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    sample = data[:4096]
    for first, encoding in ((0, "utf-16-be"), (1, "utf-16-le")):
        high, low = sample[first::2], sample[1 - first :: 2]
        if high and high.count(0) > len(high) / 2 and low.count(0) == 0:
            return encoding
    return "utf-8"


def _unquoted(text: str) -> str:
    for quote in _QUOTES:
        if len(text) > 1 and text[0] == text[-1] == quote:
            return text[1:-1].replace(quote * 2, quote).strip()
    return text
