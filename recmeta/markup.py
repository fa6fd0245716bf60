"""Text that anybody may have written, shown so that it does nothing but be read."""

import re
import unicodedata

_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
"""Unicode's categories of characters that move the cursor, turn the direction of reading or are not
shown at all."""
_LAYOUT = "\n\t"
_HTML = {"<": "&lt;", ">": "&gt;"}
_MEANS_SOMETHING = re.compile(
    r"[\\`*\[\]|~#$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|&(?=[#A-Za-z0-9])|:(?=//)|(?<=[Ww]{3})\.|@(?=\w)"
)
"""What begins emphasis, code, links (those without brackets, too), entities, cells and headings."""


def visible(text: str) -> str:
    """Return text of several lines in which control characters, and those that turn the direction
    of reading, stand as `\\uNNNN`: a terminal does not obey them."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"\\u{ord(letter):04x}"
        if unicodedata.category(letter) in _INVISIBLE and letter not in _LAYOUT
        else letter
        for letter in text
    )


def inline(text: str) -> str:
    """Return text as Markdown that shows it, on one line and in one cell of a table: it is no
    markup, HTML or link."""
    flat = visible(" ".join(text.split("\n")).replace("\t", " "))
    escaped = _MEANS_SOMETHING.sub(lambda match: f"\\{match[0]}", flat)
    return "".join(_HTML.get(letter, letter) for letter in escaped)
