"""A whole log, read and checked: the rows that may be published and those that may not."""

import datetime
from collections.abc import Iterator

import polars as pl

from recmeta.errors import UserError
from recmeta.logs.checking import contracts
from recmeta.logs.mapping import LogMapping
from recmeta.logs.reading.log_format import SourceFile
from recmeta.logs.reading.sources import read
from recmeta.progress import Progress
from recmeta.schema import FILE, ITEM_ID, LINE, RAW, RULES, USER_ID

NUM_EXAMPLES = 3
VALUE_RULES = ["missing_value", "unparsable_value", "value_not_finite", "value_out_of_scale"]
"""What may be wrong with the value of a row that is right otherwise."""


def read_log(
    mapping: LogMapping, files: list[SourceFile], now: datetime.datetime, progress: Progress
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read all rows of a log and part them by whether they keep every rule.

    Raw text is parsed a block at a time; what stays in memory is the parsed rows with their text.

    Returns:
        The good rows and the bad ones, in their order, as `contracts.check` does.
    """
    good, bad = zip(*read_blocks(mapping, files, now, progress), strict=True)
    return pl.concat(good), pl.concat(bad)


def read_blocks(
    mapping: LogMapping, files: list[SourceFile], now: datetime.datetime, progress: Progress
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Yield the good rows and the bad ones of a log block by block, at least one."""
    done, total = 0, max(1, sum(file.size for file in files))
    for batch in read(mapping, files, contracts.wanted_columns(mapping)):
        yield contracts.check(batch, mapping, now)
        done += int(batch[RAW].str.len_bytes().sum()) + batch.height
        progress("reading", min(done, total), total)
    progress("reading", total, total)


def named_users(bad: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what rejected rows say of users all the same, and the rows that say nothing else.

    In a log they are faults; among new users a row without an item says that nothing is known of
    somebody, one of which the value alone is wrong that its item was met, and any other that there
    is this user.

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
    """Return how many rejected rows there are by what is wrong with them, the first rule that each
    breaks."""
    rules = bad[RULES].list.first().drop_nulls()
    return dict(rules.value_counts(sort=True).rows())


def is_too_bad(mapping: LogMapping, good: pl.DataFrame, bad: pl.DataFrame) -> bool:
    """Return whether more than `max_bad_share` of the rows is bad."""
    return bad.height > mapping.max_bad_share * (good.height + bad.height)


def too_bad(
    mapping: LogMapping, good: pl.DataFrame, bad: pl.DataFrame, quarantine: str
) -> UserError:
    """Return the error that refuses a log, naming the rules broken most, with examples.

    Args:
        quarantine: where the user finds the bad rows.
    """
    rows_read = good.height + bad.height
    broken = bad.explode(RULES).group_by(RULES, maintain_order=True)
    rules = broken.agg(pl.len().alias("rows"), (pl.format("{}:{}", FILE, LINE)).head(NUM_EXAMPLES))
    rules = rules.sort("rows", descending=True, maintain_order=True).head(NUM_EXAMPLES)
    told = "; ".join(
        f"{rule} ({rows} rows, such as {', '.join(examples)})"
        for rule, rows, examples in rules.rows()
    )
    return UserError(
        f"{bad.height} of {rows_read} rows ({bad.height / rows_read:.1%}) break the rules, more "
        f"than max_bad_share allows ({mapping.max_bad_share:.1%}), so that nothing was published. "
        f"Most frequent: {told}. {_advice(rules[RULES][0])}All bad rows are in {quarantine}. "
        "Mend the file or the mapping, or raise max_bad_share."
    )


def _advice(rule: str) -> str:
    """Return what most often is behind a file in which a rule is broken everywhere."""
    likely = {
        "wrong_encoding": "Perhaps the file has another encoding, such as latin-1 or cp1252. ",
        "ragged_line": "Perhaps the separator or the quote character is another one. ",
        "unparsable_time": "Perhaps time_unit does not say how the times are spelled. ",
        "future_time": "Perhaps the times are in ms or us and time_unit says s. ",
        "value_out_of_scale": "Perhaps the scale is another one. ",
        "unknown_event": "Perhaps events does not list all kinds. ",
    }
    return likely.get(rule, "")
