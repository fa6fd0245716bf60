"""Text files with a separator between fields: CSV, TSV and similar formats."""

import dataclasses
import re
from collections.abc import Iterator

import polars as pl

from recmeta.errors import UserError
from recmeta.logs.mapping import Source
from recmeta.logs.reading.lines import TEXT, read_lines
from recmeta.logs.reading.log_format import LogFormat, SourceFile, Wanted, positions
from recmeta.logs.reading.records import Dialect, header_fields, join_lines, split_fields
from recmeta.logs.reading.text_files import opened
from recmeta.schema import LINE, RAW

HEADER_BYTES = 1024 * 1024
"""Bytes of a file that are read to find its header."""
HEADER_COPIES = "copies of the header"
TITLES = "titles above the header"
_SEPARATORS = (",", ";", "\t", "|", "^", "::")
NETFLIX = re.compile(r"^\d+:$")


def separated(default: str, *, endings: tuple[str, ...]) -> LogFormat:
    """Return the format of text files whose fields are separated.

    Args:
        default: the separator where a source names none.
    """

    def read(source: Source, file: SourceFile, wanted: Wanted) -> Iterator[pl.DataFrame]:
        return _read(source, file, wanted, default)

    def column_names(source: Source, file: SourceFile) -> list[str]:
        with opened(source, file) as (stream, encoding):
            for lines, last in read_lines(stream, encoding, HEADER_BYTES):
                layout = Layout.of(lines, source, file, default)
                if layout is not None:
                    return layout.names
                if last:
                    break
        raise _empty(file)

    return LogFormat(read=read, column_names=column_names, endings=endings, has_header=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """How a file is laid out, as its first lines show it."""

    dialect: Dialect
    names: list[str]
    header_line: int
    """The number of the line with the columns' names, or of the last line before the first row."""
    header: str | None
    """The text of the header; lines that repeat it are not rows. None if there is no header."""
    is_spaced: bool
    """Whether quoted fields stand behind a separator and a space."""
    num_titles: int
    """The number of lines above the header that are no rows, such as "Sales of January"."""

    @classmethod
    def of(
        cls, lines: pl.DataFrame, source: Source, file: SourceFile, default: str
    ) -> "Layout | None":
        """Return the layout; None if no line shows it yet."""
        filled = lines.filter(pl.col(TEXT).str.strip_chars(" ") != "")
        separator, skipped = source.separator or default, 0
        texts = filled[TEXT].head(NUM_LINES).to_list()
        # A spreadsheet's own line, and remarks above the names.
        if texts and re.fullmatch(r"(?i)sep=.", texts[0]):
            separator, skipped = source.separator or texts[0][-1], 1
        while (
            texts[skipped:] and texts[skipped].startswith("#") and separator not in texts[skipped]
        ):
            skipped += 1
        texts = texts[skipped:]
        if not texts:
            return None
        dialect = Dialect(separator=separator, quote=source.quote, escape=source.escape, width=0)
        is_spaced = _is_spaced(texts, dialect)
        if is_spaced:
            texts = [_unspaced(text, dialect) for text in texts]
        num_titles = _num_titles(texts, dialect, source, file)
        texts, skipped = texts[num_titles:], skipped + num_titles
        first = header_fields(texts[0], dialect)
        names = list(source.column_names)
        if not names and not source.header:
            names = [f"column_{place}" for place in range(1, len(first) + 1)]
        has_header = not names or [*map(str.strip, first)] == names
        if not names and file.header and not _names_of(first, file.header):
            names, has_header = list(file.header), False  # a part without a header of its own
        names = names or first
        rows = texts[1:] if has_header else texts
        if rows and all(_ends_open(row, dialect, len(names)) for row in rows):
            names = [*names, ""]  # each row ends with a separator, and the header does not
        last_skipped = skipped + has_header
        return cls(
            dialect=dialect,
            names=names,
            header_line=filled[LINE][last_skipped - 1] if last_skipped else 0,
            header=filled[TEXT][skipped] if has_header else None,
            is_spaced=is_spaced,
            num_titles=num_titles,
        )

    def rows(self, lines: pl.DataFrame) -> tuple[pl.DataFrame, int]:
        """Return the lines without the header, and without its copies where files were put
        together, and how many of these there are."""
        below = rows = lines.filter(pl.col(LINE) > self.header_line)
        if self.header is not None:
            rows = below.filter(pl.col(TEXT) != self.header)
        num_copies = below.height - rows.height
        if self.is_spaced:
            pattern, plain = _spaced(self.dialect)
            rows = rows.with_columns(pl.col(TEXT).str.replace_all(pattern, plain))
        return rows, num_copies


NUM_LINES = 100
"""Number of lines that show a layout."""


def _read(source: Source, file: SourceFile, wanted: Wanted, default: str) -> Iterator[pl.DataFrame]:
    layout: Layout | None = None
    columns: dict[str, int] = {}
    rest: pl.DataFrame | None = None
    file.passed_over[HEADER_COPIES] = 0
    with opened(source, file) as (stream, encoding):
        for block, last in read_lines(stream, encoding):
            lines = block
            if layout is None:
                lines = block if rest is None else pl.concat([rest, block])
                layout = Layout.of(lines, source, file, default)
                if layout is None:
                    rest = lines
                    continue
                rest = None
                file.passed_over[TITLES] = layout.num_titles
                columns = positions(layout.names, wanted, file.name, _hint(layout, lines))
                dialect = dataclasses.replace(
                    layout.dialect,
                    width=len(layout.names),
                    single_line=frozenset(
                        index
                        for role, index in columns.items()
                        if role not in wanted.may_break_lines
                    ),
                )
            lines, num_copies = layout.rows(lines)
            file.passed_over[HEADER_COPIES] += num_copies
            lines = lines if rest is None else pl.concat([rest, lines])
            records, rest = join_lines(lines, dialect, last)
            yield split_fields(records, dialect, columns).rename({TEXT: RAW})
    if layout is None:
        raise _empty(file)


def _empty(file: SourceFile) -> UserError:
    return UserError(f"{file.name!r} is empty: it does not even have a header line.")


def _hint(layout: Layout, lines: pl.DataFrame) -> str:
    """Return a sentence on what a file without the wanted columns may be; it may be empty."""
    first = layout.names
    if len(first) == 1 and NETFLIX.fullmatch(first[0]):
        return (
            " It has a line with an item and a colon above the rows of each item, as the Netflix "
            "Prize has: write the item into each row, as with awk -F, "
            '\'/:$/{sub(":","");i=$0;next}{print i","$0}\', and name the columns: '
            "--column-names item_id,user_id,rating,date."
        )
    if len(first) == 1:
        text = lines[TEXT].head(NUM_LINES).str.join("\n").item()
        counts = {sign: text.count(sign) for sign in _SEPARATORS}
        likely = max(counts, key=lambda sign: (counts[sign], len(sign)))
        shown = likely.replace("\t", "\\t")
        if counts[likely] and likely != layout.dialect.separator:
            return (
                f" There is only one column: is {layout.dialect.separator!r} the separator? "
                f"--separator {shown!r} seems to be."
            )
        return f" There is only one column: is {layout.dialect.separator!r} the separator?"
    if any(re.fullmatch(r"-?\d+(?:\.\d+)?", name) for name in first):
        return (
            " The first line seems to be a row: name the columns, in their order, as in "
            "--column-names user_id,item_id,…"
        )
    return ""


def _names_of(first: list[str], header: tuple[str, ...]) -> bool:
    """Whether a first line has the names of another file's header, perhaps in another order."""
    return bool(set(first) & set(header)) or len(first) != len(header)


def _num_titles(texts: list[str], dialect: Dialect, source: Source, file: SourceFile) -> int:
    """Return how many lines above a table's header have text in one place only."""
    if source.column_names or not source.header:
        return 0
    filled = [sum(map(bool, header_fields(text, dialect))) for text in texts]
    if sum(number > 1 for number in filled) <= len(texts) / 2:
        return 0  # the separator may be another one
    number = next(place for place, found in enumerate(filled) if found > 1)
    titles = "".join(texts[:number]).replace(dialect.separator, "")
    if any(sign in titles for sign in _SEPARATORS) or NETFLIX.fullmatch(texts[0]):
        return 0
    names = set(header_fields(texts[number], dialect))
    return number if not file.header or names & set(file.header) else 0


def _ends_open(row: str, dialect: Dialect, width: int) -> bool:
    return row.endswith(dialect.separator) and len(header_fields(row, dialect)) == width + 1


def _is_spaced(texts: list[str], dialect: Dialect) -> bool:
    if not dialect.quote or dialect.separator == " ":
        return False
    text = "\n".join(texts)
    pattern, plain = _spaced(dialect)
    return re.search(pattern, text) is not None and plain not in text


def _unspaced(text: str, dialect: Dialect) -> str:
    pattern, plain = _spaced(dialect)
    return re.sub(pattern, lambda _: plain, text)


def _spaced(dialect: Dialect) -> tuple[str, str]:
    """Return a pattern of separator, space and quote, and what stands for them."""
    pattern = f"{re.escape(dialect.separator)} +{re.escape(dialect.quote)}"
    return pattern, f"{dialect.separator}{dialect.quote}"
