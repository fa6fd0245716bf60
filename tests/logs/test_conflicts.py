"""Rows of one key: against an obvious implementation with dictionaries."""

import datetime

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from recmeta.logs.checking import conflicts

TIMES = [None, datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)]
ROW = st.tuples(
    st.sampled_from("ab"),
    st.sampled_from("xy"),
    st.sampled_from(TIMES),
    st.sampled_from([1.0, 2.0]),
)


def frame(rows: list[tuple[str, str, datetime.datetime | None, float]]) -> pl.DataFrame:
    schema = {
        "user_id": pl.String,
        "item_id": pl.String,
        "timestamp": pl.Datetime("us", "UTC"),
        "value": pl.Float64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        pl.lit("rating").alias("event"), pl.lit("f").alias("file"), pl.lit("raw").alias("raw"),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("line"),
    )  # fmt: skip


@given(st.lists(ROW, max_size=12), st.lists(ROW, max_size=12))
def test_settle_and_compare(
    rows: list[tuple[str, str, datetime.datetime | None, float]],
    stored: list[tuple[str, str, datetime.datetime | None, float]],
) -> None:
    winners = {row[:3]: row[3] for row in rows}
    settled = conflicts.settle(frame(rows))
    assert {row[:3]: row[3] for row in settled.rows.select(KEY_AND_VALUE).rows()} == winners
    contradicted = [n for n, row in enumerate(rows) if winners[row[:3]] != row[3]]
    assert settled.superseded["line"].to_list() == contradicted
    assert settled.num_duplicates == len(rows) - len(winners) - len(contradicted)

    table = {row[:3]: row[3] for row in stored}
    old = frame([(*key, value) for key, value in table.items()])
    changes = conflicts.compare(settled.rows, old.lazy())
    new = {key for key in winners if key not in table}
    replacing = {key for key in winners if key in table and table[key] != winners[key]}
    assert {row[:3] for row in changes.new.select(KEY_AND_VALUE).rows()} == new
    assert {row[:3] for row in changes.replacing.select(KEY_AND_VALUE).rows()} == replacing
    assert {row[:3] for row in changes.replaced.select(KEY_AND_VALUE).rows()} == replacing
    assert changes.num_duplicates == len(winners) - len(new) - len(replacing)


KEY_AND_VALUE = ["user_id", "item_id", "timestamp", "value"]
