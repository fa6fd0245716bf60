"""Bytes to numbered lines of text, undecodable bytes marked rather than fatal."""

import codecs
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from recmeta.errors import UserError
from recmeta.schema import LINE

TEXT = "text"
WRONG_ENCODING = "wrong_encoding"
BLOCK_BYTES = 32 * 1024 * 1024
MAX_LINE_BYTES = 32 * 1024 * 1024
MAX_LINES = 2_000_000
"""The most lines of one block, since even a short line takes some memory."""
NEW_LINE = b"\n"


def read_lines(
    stream: Any, encoding: str, block_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[pl.DataFrame, bool]]:
    """Yield a stream's lines, a block of them at a time, and whether the block is the last.

    Args:
        stream: anything with `read(size) -> bytes`.

    Yields:
        Frames of `line` (1-based, as an editor counts), `text` (without its line ending) and
        `wrong_encoding`. If that is true, `text` has `\\xNN` for bytes that are not in `encoding`;
        no other line is changed. A byte-order mark is dropped.

    Raises:
        UserError: if a UTF-16 or UTF-32 file breaks off within a character, or a line is
            implausibly long.
    """
    line, rest, start, old_mac = 1, b"", True, False
    for data, last in _utf8_blocks(stream, encoding, block_bytes):
        if start and data:
            data, start = data.removeprefix(codecs.BOM_UTF8), False
            old_mac = NEW_LINE not in data and b"\r" in data.rstrip(b"\r")
        if old_mac:
            data = data.replace(b"\r", NEW_LINE)
        data = rest + data
        cut = len(data) if last else data.rfind(b"\n") + 1
        data, rest = data[:cut], data[cut:]
        if len(rest) > max(block_bytes, MAX_LINE_BYTES):
            number = line + data.count(NEW_LINE)
            raise UserError(
                f"line {number} is longer than {MAX_LINE_BYTES:,} bytes: is this a text file with "
                "a row a line?"
            )
        if data or last:
            *pieces, end = _pieces(data)
            for piece, is_end in [*((piece, False) for piece in pieces), (end, True)]:
                frame = _split(piece, line)
                line += frame.height
                yield frame, last and is_end


def _pieces(data: bytes) -> list[bytes]:
    """Return whole lines in pieces of at most MAX_LINES."""
    if data.count(NEW_LINE) <= MAX_LINES:
        return [data]
    cuts = [0, *_line_ends(data)[MAX_LINES - 1 :: MAX_LINES].tolist(), len(data)]
    pairs = itertools.pairwise(dict.fromkeys(cuts))
    return [data[start:end] for start, end in pairs]


def _utf8_blocks(stream: Any, encoding: str, size: int) -> Iterator[tuple[bytes, bool]]:
    """Yield blocks of UTF-8 in which undecodable bytes are unchanged (and hence not UTF-8)."""
    plain = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")
    decoder = codecs.getincrementaldecoder(encoding)(errors="surrogateescape")
    while True:
        block = stream.read(size)
        last = len(block) == 0
        if not plain:
            try:
                block = decoder.decode(block, last).encode("utf-8", "surrogateescape")
            except UnicodeError as error:
                raise UserError(f"cannot read as {encoding}: {error}") from error
        yield block, last
        if last:
            return


def _split(data: bytes, first_line: int) -> pl.DataFrame:
    ends = _line_ends(data)
    wrong = np.zeros(len(ends), dtype=bool)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        # Every undecodable byte grows to four characters and no line break is touched, so that the
        # lines which grew are those with such bytes.
        lossy = data.decode("utf-8", "backslashreplace").encode("utf-8")
        lossy_ends = _line_ends(lossy)
        wrong = np.diff(lossy_ends, prepend=0) != np.diff(ends, prepend=0)
        data, ends = lossy, lossy_ends
    offsets = np.concatenate([[0], ends]).astype(np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    text = pa.Array.from_buffers(pa.large_string(), len(ends), buffers)
    numbers = np.arange(first_line, first_line + len(ends), dtype=np.int64)
    return pl.DataFrame(
        {
            LINE: pl.Series(numbers, dtype=pl.Int64),
            TEXT: pl.Series(pl.from_arrow(text), dtype=pl.String),
            WRONG_ENCODING: pl.Series(wrong, dtype=pl.Boolean),
        }
    ).with_columns(pl.col(TEXT).str.strip_chars_end("\r\n"))


def _line_ends(data: bytes) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the offset after each line; the last line may lack a line break."""
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n")) + 1
    if data and not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    return ends.astype(np.int64)
