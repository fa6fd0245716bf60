"""Rows of one key: against an obvious implementation with dictionaries."""

import datetime
import json

import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from recmeta.logs import tables
from recmeta.logs.checking import conflicts
from recmeta.schema import INGESTED_AT, QUARANTINE, SOURCE

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
    assert settled.rows.columns == [*conflicts.KEY, "value"]
    assert_frame_equal(settled.rows, settled.rows.sort(conflicts.KEY))
    contradicted = [n for n, row in enumerate(rows) if winners[row[:3]] != row[3]]
    assert settled.superseded["line"].to_list() == contradicted
    assert settled.num_duplicates == len(rows) - len(winners) - len(contradicted)

    table = {row[:3]: row[3] for row in stored}
    old = frame([(*key, value) for key, value in table.items()])
    changes = conflicts.compare(settled.rows, old)
    new = {key for key in winners if key not in table}
    replacing = {key for key in winners if key in table and table[key] != winners[key]}
    accepted = {row[:3]: row[3] for row in changes.accepted.select(KEY_AND_VALUE).rows()}
    assert accepted == {key: winners[key] for key in new | replacing}
    assert {row[:3] for row in changes.replaced.select(KEY_AND_VALUE).rows()} == replacing
    assert changes.num_duplicates == len(winners) - len(new) - len(replacing)
    for part in (changes.accepted, changes.replaced):
        assert_frame_equal(part, part.sort(conflicts.KEY))


def test_rows_are_sorted_by_key_where_nothing_repeats_and_where_something_does() -> None:
    rows = [("b", "x", TIMES[1], 1.0), ("b", "x", None, 2.0), ("a", "y", None, 1.0)]
    for source in (rows, [*rows, rows[0]], [*rows, ("a", "y", None, 2.0)]):
        settled = conflicts.settle(frame(source))
        order = settled.rows.select("user_id", "item_id", "timestamp").rows()
        assert order == [("a", "y", None), ("b", "x", None), ("b", "x", TIMES[1])]
        assert settled.superseded.columns == frame(source).columns


def test_what_lost_goes_into_the_quarantine_with_its_place_and_its_text() -> None:
    rows = [("b", 'y"', TIMES[1], 2.0), ("a", "x", None, 1.0)]
    place = ["file", "line", "rules", "raw"]
    lost = conflicts.superseded(frame(rows))
    assert lost.select(place).rows() == [(*("f", n, ["superseded"]), "raw") for n in (0, 1)]
    assert lost.select(KEY_AND_VALUE).rows() == rows
    assert lost.schema == conflicts.NONE_QUARANTINED.schema

    lost = conflicts.replaced(frame(rows).with_columns(pl.lit("s1").alias("source")))
    assert lost.select(place[:3]).rows() == [("s1", 0, ["superseded"])] * 2
    assert lost.select(KEY_AND_VALUE).rows() == rows
    assert lost.schema == conflicts.NONE_QUARANTINED.schema
    assert [json.loads(text) for text in lost["raw"]] == [
        {"user_id": "b", "item_id": 'y"', "event": "rating", "timestamp": ISO, "value": 2.0},
        {"user_id": "a", "item_id": "x", "event": "rating", "timestamp": None, "value": 1.0},
    ]


ISO = "2020-01-01T00:00:00.000000+00:00"
KEY_AND_VALUE = ["user_id", "item_id", "timestamp", "value"]


def test_rows_for_the_quarantine_have_its_columns() -> None:
    columns = tables.empty(QUARANTINE).drop(SOURCE, INGESTED_AT)
    assert conflicts.NONE_QUARANTINED.schema == columns.schema
