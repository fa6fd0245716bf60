"""Turns lines of CSV and TSV into records and fields, even if some of them are broken.

A record is one line, or several where a quoted field holds line breaks. The one danger is a quote
that is never closed: read naively, it swallows every row after it. Here a line that opens a quote
is joined with the lines that follow only if together they are one well-formed record with the right
number of fields, and not if the open field is one of those that never hold a line break (ids,
times, values). Otherwise that line alone is broken, and reading goes on with the next.

Quoting follows RFC 4180: a field is quoted if it begins with a quote; elsewhere a quote is an
ordinary character.
"""

import dataclasses
import re
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl

from recmeta.logs.reading.lines import TEXT, WRONG_ENCODING
from recmeta.schema import LINE

RAGGED = "ragged_line"
MAX_LINES_PER_RECORD = 1000
"""A quoted field that seems to extend over more lines than this is a broken quote."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a file writes its records."""

    separator: str
    quote: str
    escape: str
    width: int
    """Fields per record."""
    single_line: frozenset[int] = frozenset()
    """The columns that never hold a line break."""

    @cached_property
    def inside(self) -> str:
        """A pattern of the text that may be between quotes."""
        quote, escape = re.escape(self.quote), re.escape(self.escape)
        doubled = f"{quote}{quote}"
        if escape:
            return rf"(?:[^{quote}{escape}]|{escape}(?s:.)|{doubled})*"
        return rf"(?:[^{quote}]|{doubled})*"

    @cached_property
    def field(self) -> str:
        """A pattern of one whole field."""
        quote, separator = re.escape(self.quote), re.escape(self.separator)
        return rf"(?:{quote}{self.inside}{quote}|[^{separator}{quote}][^{separator}]*|)"

    @cached_property
    def whole(self) -> str:
        """A pattern of one whole record."""
        return rf"^{self.field}(?:{re.escape(self.separator)}{self.field})*$"


def join_lines(
    lines: pl.DataFrame, dialect: Dialect, last: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Join the lines of each record that runs over several.

    Args:
        lines: what `read_lines` yields.
        last: whether no lines follow.

    Returns:
        The records, of the same columns (`line` is the first), without blank lines; and the lines
        at the end of the block whose record is not complete yet.
    """
    first, final, carried = _multi_line_spans(lines, dialect, last)
    rest = lines[carried:]
    lines = lines[:carried]
    blank = pl.col(TEXT).str.strip_chars(" ") == ""
    if not len(first):
        return lines.filter(~blank), rest
    starts = np.ones(lines.height, dtype=bool)
    within = np.zeros(lines.height + 1, dtype=np.int64)
    np.add.at(within, first + 1, 1)
    np.add.at(within, final + 1, -1)
    starts[np.cumsum(within)[:-1] > 0] = False
    numbered = lines.with_columns(record=pl.Series(np.cumsum(starts)))
    is_joined = pl.col("record").is_in(np.cumsum(starts)[first].tolist())
    joined = (
        numbered.filter(is_joined)
        .group_by("record", maintain_order=True)
        .agg(pl.col(LINE).first(), pl.col(TEXT).str.join("\n"), pl.col(WRONG_ENCODING).any())
    )
    single = numbered.filter(~is_joined & ~blank)
    return pl.concat([single, joined.select(single.columns)]).sort(LINE).drop("record"), rest


def _multi_line_spans(
    lines: pl.DataFrame, dialect: Dialect, last: bool
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return each joined record's first and last index, and where the carried rest starts."""
    nothing = np.zeros(0, dtype=np.int64)
    if not dialect.quote:
        return nothing, nothing, lines.height
    facts = _quote_facts(lines, dialect)
    openers = facts.filter("opens")
    opener_at, opener_separators = openers["at"].to_numpy(), openers["separators"].to_numpy()
    inner = _InnerLines.of(facts)

    first: list[int] = []
    final: list[int] = []
    carried, position = lines.height, 0
    # The only sequential part of reading: one turn per line that opens a quote without closing it.
    while (opener := int(np.searchsorted(opener_at, position))) < len(opener_at):
        begin = int(opener_at[opener])
        end = inner.end_of_record(begin, int(opener_separators[opener]), dialect, lines.height)
        if end == lines.height and not last:
            carried = begin
            break
        if end is None or end == lines.height:
            position = begin + 1
        else:
            first.append(begin)
            final.append(end)
            position = end + 1
    return np.array(first, np.int64), np.array(final, np.int64), carried


def _quote_facts(lines: pl.DataFrame, dialect: Dialect) -> pl.DataFrame:
    """Return the possible roles of each line with a quote, a row per line, in order.

    Read from outside of quotes, it `opens` a record if its last field, the one after its
    `separators`, is left open. Read from inside, it `closes` the field for good, or `reopens`
    another one after its `later_separators`; `within` says that it can be the middle of the field.
    """
    quoted = lines.lazy().select(TEXT).with_row_index("at")
    quoted = quoted.filter(pl.col(TEXT).str.contains(dialect.quote, literal=True))
    quote, separator = re.escape(dialect.quote), re.escape(dialect.separator)
    inside, field = dialect.inside, dialect.field
    text = pl.col(TEXT)
    unquoted = rf"(^|{separator}){quote}{inside}(?:{quote}|$)"
    closing = rf"^{inside}{quote}"
    opening = rf"{quote}{inside}$"
    return quoted.select(
        at=pl.col("at").cast(pl.Int64),
        opens=text.str.contains(rf"^(?:{field}{separator})*{opening}")
        & ~text.str.contains(dialect.whole),
        separators=_count(text.str.replace_all(unquoted, "${1}"), dialect.separator),
        within=text.str.contains(rf"^{inside}$"),
        closes=text.str.contains(rf"{closing}(?:{separator}{field})*$"),
        reopens=text.str.contains(rf"{closing}(?:{separator}{field})*{separator}{opening}"),
        later_separators=_count(
            text.str.replace(closing, "").str.replace_all(unquoted, "${1}"), dialect.separator
        ),
    ).collect()


class _InnerLines(NamedTuple):
    """Lines with a quote that, read from inside of quotes, do not leave the field open: each closes
    it, closes it and opens another, or breaks the record."""

    at: np.ndarray
    """Their indices, ascending."""
    closes: np.ndarray
    reopens: np.ndarray
    separators: np.ndarray
    """Outside of quotes, after the field that was open."""

    @classmethod
    def of(cls, facts: pl.DataFrame) -> "_InnerLines":
        """Return those among the lines of `_quote_facts`."""
        inner = facts.filter(~pl.col("within"))
        names = ("at", "closes", "reopens", "later_separators")
        return cls(*(inner[name].to_numpy() for name in names))

    def end_of_record(
        self, begin: int, column: int, dialect: Dialect, num_lines: int
    ) -> int | None:
        """Return the index of the last line of the record that a line leaves open.

        It is `num_lines` if the lines end before the record; None if there is no such record.

        Args:
            begin: the index of the line.
            column: that of the field that it leaves open.
        """
        place = int(np.searchsorted(self.at, begin + 1))
        while column not in dialect.single_line and column < dialect.width:
            end = int(self.at[place]) if place < len(self.at) else num_lines
            if end - begin >= MAX_LINES_PER_RECORD:
                return None
            if end == num_lines:
                return num_lines
            column += int(self.separators[place])
            if self.closes[place]:
                return end if column == dialect.width - 1 else None
            if not self.reopens[place]:
                return None
            place += 1
        return None


def _count(text: pl.Expr, separator: str) -> pl.Expr:
    return text.str.count_matches(separator, literal=True).cast(pl.Int64)


def split_fields(records: pl.DataFrame, dialect: Dialect, columns: dict[str, int]) -> pl.DataFrame:
    """Add the named fields of each record, and `ragged_line`.

    Args:
        columns: the name that each wanted field gets, and its index in the record.

    Returns:
        The records in their order. A ragged one, whose fields are too few, too many or wrongly
        quoted, has null fields.
    """
    if not dialect.quote:
        return _take(records, _split_plain(dialect), dialect, columns)
    quoted = pl.col(TEXT).str.contains(dialect.quote, literal=True)
    plain = records.filter(~quoted)
    frames = [_take(plain, _split_plain(dialect), dialect, columns)]
    if plain.height < records.height:
        split = _split_quoted(dialect)
        frames.append(_take(records.filter(quoted), split, dialect, columns))
    return pl.concat(frames).sort(LINE)


def header_fields(line: str, dialect: Dialect) -> list[str]:
    """Return the column names in a header line."""
    quoted = bool(dialect.quote) and dialect.quote in line
    split = _split_quoted(dialect) if quoted else _split_plain(dialect)
    names = pl.DataFrame({TEXT: [line]}).select(split.alias("names"))["names"].to_list()[0]
    return [name.strip() for name in names] if names else [line]


def _split_plain(dialect: Dialect) -> pl.Expr:
    return pl.col(TEXT).str.split(dialect.separator)


def _split_quoted(dialect: Dialect) -> pl.Expr:
    """Return the fields of well-formed records; null for other records."""
    quote = dialect.quote
    # With a separator in front, no field matches the empty string.
    fields = (pl.lit(dialect.separator) + pl.col(TEXT)).str.extract_all(
        re.escape(dialect.separator) + dialect.field
    )
    field = pl.element().str.slice(1)
    content = field.str.slice(1).str.head(-1)
    content = content.str.replace_all(quote + quote, quote, literal=True)
    if dialect.escape:
        content = content.str.replace_all(re.escape(dialect.escape) + "(?s:(.))", "${1}")
    unquoted = pl.when(field.str.starts_with(quote)).then(content).otherwise(field)
    return pl.when(pl.col(TEXT).str.contains(dialect.whole)).then(fields.list.eval(unquoted))


def _take(
    records: pl.DataFrame, split: pl.Expr, dialect: Dialect, columns: dict[str, int]
) -> pl.DataFrame:
    fields = pl.col("fields")
    whole = (fields.list.len() == dialect.width).fill_null(False)
    return (
        records.with_columns(fields=split)
        .with_columns(
            (~whole).alias(RAGGED),
            *(
                pl.when(whole).then(fields.list.get(index, null_on_oob=True)).alias(name)
                for name, index in columns.items()
            ),
        )
        .drop("fields")
    )
