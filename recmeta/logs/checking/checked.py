"""A whole log, read and checked: its rows that may be published and those that may not."""

import dataclasses
import datetime
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import polars as pl

from recmeta.errors import UserError
from recmeta.logs.checking import contracts, parsing, spellings
from recmeta.logs.mapping import LogMapping
from recmeta.logs.reading.log_format import SourceFile
from recmeta.logs.reading.sources import read
from recmeta.progress import Progress
from recmeta.schema import FILE, ITEM_ID, LINE, RAW, RULES, USER_ID

NUM_EXAMPLES = 3
DAYS_FROM_1899_TO_1970 = 25_569
"""Days between 1899-12-30, from which spreadsheets count them, and 1970-01-01."""
NUM_CELLS = 1000
MAX_SHOWN = 60
"""The most characters of a cell in a message."""
VALUE_RULES = ["missing_value", "unparsable_value", "value_not_finite", "value_out_of_scale"]
"""The faults of a value in a row that is right otherwise."""


def read_log(
    mapping: LogMapping, files: list[SourceFile], now: datetime.datetime, progress: Progress
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read all rows of a log and divide them by whether they keep every rule.

    Raw text is parsed a block at a time; the parsed rows stay in memory with their text.

    Returns:
        The good rows and the bad ones, in their order, as `contracts.check` does.
    """
    good, bad = zip(*read_blocks(mapping, files, now, progress), strict=True)
    return pl.concat(good), pl.concat(bad)


def read_blocks(
    mapping: LogMapping,
    files: list[SourceFile],
    now: datetime.datetime,
    progress: Progress,
    *,
    raw_as_text: bool = True,
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Yield the good rows and the bad ones of a log block by block, at least one.

    A block is checked while the next one is read.

    Args:
        raw_as_text: as `Wanted.raw_as_text`, of the good rows.
    """
    done, total = 0, max(1, sum(file.size for file in files))
    wanted = dataclasses.replace(contracts.wanted_columns(mapping), raw_as_text=raw_as_text)
    with ThreadPoolExecutor(max_workers=1) as pool:
        checking: Future[tuple[pl.DataFrame, pl.DataFrame]] | None = None
        for batch in read(mapping, files, wanted):
            before, checking = checking, pool.submit(contracts.check, batch, mapping, now)
            done += num_bytes_of(batch[RAW]) + batch.height
            progress("reading", min(done, total), total)
            if before is not None:
                yield before.result()
        assert checking is not None, "a log has a block"
        yield checking.result()
    progress("reading", total, total)


def num_bytes_of(raw: pl.Series) -> int:
    """Return how many bytes the texts of rows, or the structures they are made from, have."""
    if raw.dtype == pl.String:
        return int(raw.str.len_bytes().sum())
    return int(raw.estimated_size())


def named_users(bad: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the users whom rejected rows name, and the rows that say nothing else.

    In a log such rows are faults. Among new users, a row without an item names a user without
    interactions, a row with only a wrong value says that its item was taken, and any other row says
    that the user exists.

    Returns:
        `user_id`, `item_id` (null but where only the value is wrong), `file`, `line`, `raw` of the
        rows that name a user; and the rows that are neither of the first two kinds.
    """
    only_value = pl.col(RULES).list.set_difference(VALUE_RULES).list.len() == 0
    no_item = pl.col(RULES).list.contains("missing_item_id")
    named = bad.filter(pl.col(USER_ID).is_not_null())
    is_told = pl.col(USER_ID).is_not_null() & (only_value | no_item)
    item = pl.when(only_value).then(pl.col(ITEM_ID))
    return named.select(USER_ID, item, FILE, LINE, RAW), bad.filter(~is_told)


def faults(bad: pl.DataFrame) -> dict[str, int]:
    """Return the numbers of rejected rows by fault, which is the first rule that each breaks."""
    rules = bad[RULES].list.first().drop_nulls()
    return dict(rules.value_counts(sort=True).rows())


class Rejected:
    """The faults of a log's rejected rows, in numbers and examples."""

    def __init__(self) -> None:
        self.num_rows = 0
        self._broken: Counter[str] = Counter()
        self._examples: dict[str, pl.DataFrame] = {}

    @classmethod
    def of(cls, bad: pl.DataFrame) -> "Rejected":
        """Return the faults of rows."""
        found = cls()
        found.add(bad)
        return found

    def add(self, bad: pl.DataFrame) -> None:
        """Count rows in, as `contracts.check` returns them."""
        self.num_rows += bad.height
        if not bad.height:
            return
        broken = bad.explode(RULES)
        for rule, count in broken.group_by(RULES, maintain_order=True).len().rows():
            self._broken[rule] += count
            examples = self._examples.get(rule, bad.clear())
            if examples.height < NUM_EXAMPLES:
                more = bad.filter(pl.col(RULES).list.contains(rule))
                self._examples[rule] = pl.concat([examples, more]).head(NUM_EXAMPLES)

    def worst(self) -> list[tuple[str, int, pl.DataFrame]]:
        """Return the rules that are broken most, with the number of rows that break each, and the
        first of these rows."""
        most = self._broken.most_common(NUM_EXAMPLES)
        return [(rule, count, self._examples[rule]) for rule, count in most]

    def in_words(self) -> str:
        """Return the rules that are broken most as a person reads them."""
        return "; ".join(
            f"{rule} ({count} row{'s' * (count > 1)}, such as "
            + ", ".join(f"{file}:{line}" for file, line in examples.select(FILE, LINE).rows())
            + ")"
            for rule, count, examples in self.worst()
        )


def is_too_bad(mapping: LogMapping, num_good: int, num_bad: int) -> bool:
    """Return whether more than `max_bad_share` of the rows is bad."""
    return num_bad > mapping.max_bad_share * (num_good + num_bad)


def too_bad(
    mapping: LogMapping,
    num_good: int,
    rejected: Rejected,
    quarantine: str,
    files: Sequence[SourceFile] = (),
) -> UserError:
    """Return the error that refuses a log, naming the rules broken most, with examples.

    Args:
        quarantine: where the user finds the bad rows.
        files: the log's, the first of which is read again to show what the cells contain.
    """
    num_bad, worst = rejected.num_rows, rejected.worst()
    rows_read = num_good + num_bad
    most_frequent = rejected.in_words()
    likely = advice(mapping, worst[0][0], worst[0][2], files)
    return UserError(
        f"{num_bad} of {rows_read} rows ({num_bad / rows_read:.1%}) break the rules, more "
        f"than max_bad_share allows ({mapping.max_bad_share:.1%}), so nothing was published. Most "
        f"frequent: {most_frequent}. {likely}"
        f"All bad rows are in {quarantine}. "
        "Fix the file or the mapping, or raise max_bad_share (--max-bad-share)."
    )


def passed_over(files: Sequence[SourceFile]) -> tuple[str, ...]:
    """Return sentences on lines of the files that are not rows."""
    total = sum((file.passed_over for file in files), Counter[str]())
    return tuple(
        f"Lines skipped because they are {what}: {number:,}." for what, number in total.items()
    )


def advice(mapping: LogMapping, rule: str, bad: pl.DataFrame, files: Sequence[SourceFile]) -> str:
    """Return the most likely cause of a rule that is broken everywhere in a file, and the option
    that fixes it, with a space at the end; empty if neither is known.

    Args:
        rule: that is broken.
        bad: rows that break it.
        files: as `too_bad`.
    """
    likely = {
        "wrong_encoding": "Perhaps the file has another encoding: --encoding cp1252 or latin-1. ",
        "ragged_line": "Perhaps the separator or the quote character is different: --separator "
        "';', --quote ''. ",
        "unparsable_time": "Perhaps --time-unit does not match how the times are written. ",
        "future_time": "Perhaps the times are in ms or us and --time-unit says s. ",
        "value_out_of_scale": "Perhaps the values have another scale (--scale). ",
        "unparsable_value": "Values are plain numbers, such as 4.5, without a decimal comma, a "
        "currency or words. ",
        "unknown_event": "Perhaps events does not list all kinds. ",
        "unparsable_json": _other_than_json(bad),
    }
    role = {
        "unparsable_time": "time",
        "future_time": "time",
        "unparsable_value": "value",
        "missing_user_id": "user",
        "missing_item_id": "item",
    }.get(rule)
    cells = None if role is None else _first_cells(mapping, role, files)
    if cells is None or not len(cells):
        return likely.get(rule, "")
    if role == "time":
        return _other_times(mapping, rule, cells) or likely[rule]
    if role == "value":
        return _other_numbers(cells) or likely[rule]
    return _nulls(mapping, cells) or likely.get(rule, "")


def _first_cells(mapping: LogMapping, role: str, files: Sequence[SourceFile]) -> pl.Series | None:
    """Return the contents of a role's column in the first rows; None if they cannot be read."""
    if not files:
        return None
    batch = next(iter(read(mapping, list(files[:1]), contracts.wanted_columns(mapping))), None)
    return None if batch is None or role not in batch.columns else batch[role].head(NUM_CELLS)


def _other_times(mapping: LogMapping, rule: str, cells: pl.Series) -> str:
    example, unit = _shown(cells), spellings.unit_of(cells)
    if unit is not None and unit != mapping.time_unit:
        return f"Times such as {example} are read with --time-unit {shlex.quote(unit)}. "
    if rule == "future_time":
        return f"Times such as {example} are later than now. {_as_days_of_a_sheet(cells)}"
    if cells.dtype.is_temporal():
        return ""
    return (
        f"Times such as {example} cannot be read with --time-unit "
        f"{shlex.quote(mapping.time_unit)}: use s, ms, us, ns or d (since 1970), iso, or a "
        "strptime format such as '%d/%m/%Y %H:%M'; UTC and GMT are the only zone names that can be "
        "read. "
    )


def _as_days_of_a_sheet(cells: pl.Series) -> str:
    """Return a sentence on numbers that are days since 1899-12-30; it may be empty."""
    numbers = cells.cast(pl.Float64, strict=False) - DAYS_FROM_1899_TO_1970
    days = numbers.to_frame("t").select(parsing.time("t", numbers.dtype, "d")).to_series()
    if not days.is_between(spellings.EARLIEST, spellings.LATEST).all() or numbers.has_nulls():
        return ""
    return (
        "They may be days as spreadsheets count them: show the column as dates there, and save "
        "the sheet again. "
    )


def _other_numbers(cells: pl.Series) -> str:
    numbers = cells.to_frame("n").select(parsing.number("n", cells.dtype)).to_series()
    others = cells.filter(numbers.is_null() & cells.is_not_null())
    if not len(others):
        return ""
    example, decimal = _shown(others), spellings.decimal_of(cells)
    if decimal:
        return f"Numbers such as {example} are read with --decimal '{decimal}'. "
    return (
        f"Values such as {example} are not plain numbers: write each as digits, such as 4.5, "
        "without a currency, a per cent sign, a scale or words. "
    )


def _nulls(mapping: LogMapping, cells: pl.Series) -> str:
    """Return a sentence on what the file has in the place of ids; empty if there is nothing."""
    text = cells.cast(pl.String).str.strip_chars()
    words = text.filter(text.is_in(list(mapping.nulls)))
    if not len(words):
        return ""
    return (
        f"Cells such as {_shown(words)} stand for nothing: to leave such rows out, raise "
        "--max-bad-share; if this is an id, set keep_default_nulls = false in a mapping. "
    )


def _other_than_json(bad: pl.DataFrame) -> str:
    """Return what lines are that are not JSON objects."""
    lines = bad.filter(pl.col(RULES).list.contains("unparsable_json"))[RAW].head(1).to_list()
    if not lines:
        return ""
    line = lines[0].strip()
    if re.match(r"\{\s*u?'", line):
        return (
            "The lines are dictionaries as Python prints them, not JSON: convert them with "
            'python -c "import ast, json, sys; [print(json.dumps(ast.literal_eval(line))) for line '
            'in sys.stdin]" < FILE > FILE.jsonl. '
        )
    if not line.startswith("{"):
        return f"Lines such as {_shown(pl.Series([line]))} are not JSON objects: try --format csv. "
    return ""


def _shown(values: pl.Series) -> str:
    text = str(values.drop_nulls()[0]) if values.null_count() < len(values) else ""
    return repr(text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…")
