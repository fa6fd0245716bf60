"""The contract: every rule that a row breaks is told, and nothing crashes on the way."""

import datetime
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmeta.logs.checking import contracts, parsing
from recmeta.logs.mapping import LogMapping
from recmeta.logs.reading.files import find_files
from recmeta.logs.reading.sources import read

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
HEADER = "user_id,item_id,time,value,event\n"


def check(path: Path, text: str | bytes, **fields: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(HEADER.encode() + data)
    mapping = LogMapping(
        path=str(path),
        **{"time_col": "time", "value_col": "value", "event_col": "event", "scale": "1:5"} | fields,
    )
    batches = read(mapping, find_files(mapping), contracts.wanted_columns(mapping))
    parts = [contracts.check(batch, mapping, NOW) for batch in batches]
    return pl.concat(good for good, _ in parts), pl.concat(bad for _, bad in parts)


@pytest.mark.parametrize(
    ("row", "rules"),
    [
        (b" ,i,1,1,rate", ["missing_user_id"]),
        (b'u,"",1,1,rate', ["missing_item_id"]),
        (b"u,i,,1,rate", ["missing_time"]),
        (b"u,i,noon,1,rate", ["unparsable_time"]),
        (b"u,i,nan,1,rate", ["unparsable_time"]),
        (b"u,i,-99999999999999,1,rate", ["unparsable_time"]),
        (b"u,i,1767398400,1,rate", ["future_time"]),
        (b"u,i,99999999999999999999999,1,rate", ["future_time"]),
        (b"u,i,1,,rate", ["missing_value"]),
        (b"u,i,1,five,rate", ["unparsable_value"]),
        (b"u,i,1,NaN,rate", ["value_not_finite"]),
        (b"u,i,1,-inf,rate", ["value_not_finite"]),
        (b"u,i,1,5.1,rate", ["value_out_of_scale"]),
        (b"u,i,1,1,buy", ["unknown_event"]),
        (b"u,i,1,1,", ["unknown_event"]),
        (b"u,i,1,1", ["ragged_line"]),
        (b"u,i,1,1,rate,more", ["ragged_line"]),
        (b"u\xff,i,1,1,rate", ["wrong_encoding"]),
        (b"\xff", ["ragged_line", "wrong_encoding"]),
        (
            b",,noon,9,buy",
            [
                "missing_item_id",
                "missing_user_id",
                "unknown_event",
                "unparsable_time",
                "value_out_of_scale",
            ],
        ),
    ],
)
def test_each_rule(tmp_path: Path, row: bytes, rules: list[str]) -> None:
    good, bad = check(
        tmp_path / "log.csv",
        b"a,b,1,1,rate\n" + row + b"\nc,d,1,5,rate\n",
        events={"rate": "rating"},
    )
    assert good["user_id"].to_list() == ["a", "c"]
    assert good["event"].to_list() == ["rating", "rating"]
    assert bad["line"].to_list() == [3]
    assert sorted(bad["rules"].item()) == rules


def test_a_day_of_clock_skew_is_forgiven_and_times_before_1970_are_times(tmp_path: Path) -> None:
    tomorrow = int(NOW.timestamp()) + 86_400
    good, bad = check(
        tmp_path / "log.csv", f"u,i,{tomorrow},1,e\nv,i,-1,1,e\nw,i,{tomorrow + 1},1,e\n"
    )
    assert good["timestamp"].to_list() == [
        NOW + datetime.timedelta(days=1),
        datetime.datetime(1969, 12, 31, 23, 59, 59, tzinfo=datetime.UTC),
    ]
    assert bad["rules"].to_list() == [["future_time"]]


def test_what_is_not_mapped_is_not_asked_for(tmp_path: Path) -> None:
    good, bad = check(
        tmp_path / "log.csv", "u,i,,,\n", time_col=None, value_col=None, event_col=None, scale=""
    )
    assert not bad.height
    row = good.select("timestamp", "event", "value").row(0)
    assert row == (None, "click", 1.0)


def test_an_implicit_value_becomes_a_view(tmp_path: Path) -> None:
    good, bad = check(
        tmp_path / "log.csv", "u,i,1,0,x\nu,j,1,3,x\n", event_col=None, implicit_value=0.0
    )
    assert not bad.height
    assert good.select("event", "value").rows() == [("view", 1.0), ("rating", 3.0)]


def test_typed_columns(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame(
        {
            "user_id": [1.0, math.nan, 3.0, 4.0],
            "item_id": pl.Series(["a", "b", " c ", "d"], dtype=pl.Categorical),
            "time": [
                NOW.replace(tzinfo=None),
                NOW.replace(tzinfo=None),
                None,
                NOW.replace(tzinfo=None),
            ],
            "value": [1.0, 2.0, 3.0, math.nan],
        }
    ).write_parquet(path)
    mapping = LogMapping(path=str(path), time_col="time", value_col="value")
    (batch,) = read(mapping, find_files(mapping), contracts.wanted_columns(mapping))
    good, bad = contracts.check(batch, mapping, NOW)
    assert good.select("user_id", "item_id", "timestamp").rows() == [("1", "a", NOW)]
    assert bad.select("line", "rules").rows() == [
        (2, ["missing_user_id"]),
        (3, ["missing_time"]),
        (4, ["value_not_finite"]),
    ]


@pytest.mark.parametrize(
    ("spelled", "decimal", "expected"),
    [
        ("1234.5", "", 1234.5),
        ("1,234.5", "", None),
        ("4,5", "", None),
        ("TRUE", "", 1.0),
        ("false", "", 0.0),
        ("4,5", ",", 4.5),
        ("1.234,50", ",", 1234.5),
        ("1 234,50", ",", 1234.5),
        ("1'234'567", ",", 1234567.0),
        ("-3", ",", -3.0),
        ("1.5", ",", None),
        ("12.34", ",", None),
        ("1,234.5", ".", 1234.5),
        ("1,2345", ".", None),
        ("2e3", ".", 2000.0),
        ("\u22124.5", ".", -4.5),
        ("$5", ".", None),
    ],
)
def test_numbers(spelled: str, decimal: str, expected: float | None) -> None:
    frame = pl.DataFrame({"n": [spelled, None]})
    found = frame.select(parsing.number("n", pl.String(), decimal)).to_series().to_list()
    assert found == [expected, None]


def test_words_for_null_are_no_ids_and_whole_floats_are_integers(tmp_path: Path) -> None:
    rows = "NULL,i,1,1,e\n10.0,20.00,1,1,e\n1.5,007,1,1,e\nnull and void,NA,1,1,e\n"
    good, bad = check(tmp_path / "log.csv", rows)
    assert good.select("user_id", "item_id").rows() == [("10", "20"), ("1.5", "007")]
    assert bad["rules"].to_list() == [["missing_user_id"], ["missing_item_id"]]
    good, bad = check(tmp_path / "log.csv", "NULL,i,1,99,e\nu,99,1,3,e\n", null_values=("99",))
    assert not good.height
    assert bad["rules"].to_list() == [["missing_user_id", "missing_value"], ["missing_item_id"]]


def parse_time(text: str, unit: str) -> datetime.datetime | None:
    expression = parsing.time("t", pl.String(), unit)
    result: datetime.datetime | None = pl.DataFrame({"t": [text]}).select(expression).item()
    return result


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("881250949", "s", "1997-12-04T15:55:49"),
        ("881250949.0", "s", "1997-12-04T15:55:49"),
        ("881250949000", "ms", "1997-12-04T15:55:49"),
        ("881250949000001", "us", "1997-12-04T15:55:49.000001"),
        ("881250949000001999", "ns", "1997-12-04T15:55:49.000001"),
        ("2020-01-02", "iso", "2020-01-02T00:00:00"),
        ("2020-01-02 03:04", "iso", "2020-01-02T03:04:00"),
        ("2020-01-02T03:04:05Z", "iso", "2020-01-02T03:04:05"),
        ("2020-01-02T03:04:05.25+02:00", "iso", "2020-01-02T01:04:05.25"),
        ("2020-01-02T03:04:05-0530", "iso", "2020-01-02T08:34:05"),
        ("02/01/2020", "%d/%m/%Y", "2020-01-02T00:00:00"),
        ("02/01/2020 03:04:05.5", "%d/%m/%Y %H:%M:%S.%f", "2020-01-02T03:04:05.5"),
        ("2020-01-02 03:04:05 UTC", "iso", "2020-01-02T03:04:05"),
        ("2020-01-02T03:04:05Z[UTC]", "iso", "2020-01-02T03:04:05"),
        ("2020-01-02T03:04:05+02:00[Europe/Kyiv]", "iso", "2020-01-02T01:04:05"),
        ("2020-01-02 03:04:05,25", "iso", "2020-01-02T03:04:05.25"),
        ("2020/1/2 03:04:05", "iso", "2020-01-02T03:04:05"),
        ("20200102T030405Z", "iso", "2020-01-02T03:04:05"),
        ("20200102", "iso", "2020-01-02T00:00:00"),
        ("2020-01-02 24:00:00", "iso", "2020-01-03T00:00:00"),
        ("2020-01-02 24:00:01", "iso", None),
        ("2020-01-02 03:04:05 EST", "iso", None),
        ("18263", "d", "2020-01-02T00:00:00"),
        ("18263.5", "d", "2020-01-02T12:00:00"),
        ("20200102", "%Y%m%d", "2020-01-02T00:00:00"),
        ("2020-02-30", "iso", None),
        ("31/02/2020", "%d/%m/%Y", None),
        ("-9223372036854775808", "ms", None),
    ],
)
def test_times(text: str, unit: str, expected: str | None) -> None:
    wanted = expected and datetime.datetime.fromisoformat(expected).replace(tzinfo=datetime.UTC)
    assert parse_time(text, unit) == wanted


@given(st.text(max_size=30) | st.integers().map(str) | st.floats().map(str))
def test_no_text_crashes_the_time_parser(text: str) -> None:
    for unit in ("s", "ns", "iso", "%Y-%m-%d %H:%M:%S"):
        found = parse_time(text, unit)
        assert found is None or found.tzinfo is not None


@given(st.datetimes(datetime.datetime(1, 1, 2), datetime.datetime(9999, 12, 30)))
def test_iso_times_come_back(time: datetime.datetime) -> None:
    assert parse_time(time.isoformat(), "iso") == time.replace(tzinfo=datetime.UTC)


def test_an_object_with_a_key_twice_is_quarantined(tmp_path: Path) -> None:
    """Nobody can tell which value is meant, also where a key is spelled in two ways."""
    path = tmp_path / "a.jsonl"
    rest = '"item_id": "i", "rating": 3'
    lines = [
        '{"user_id": "ann", ' + rest + "}",
        '{"user_id": "ann", "user_id": "bob", ' + rest + "}",
        r'{"user_id": "ann", "\u0075ser_id": "bob", ' + rest + "}",
        '{"user_id": "ann", "tags": {"a": 1, "a": 1}, ' + rest + "}",
        '{"user_id": "ann", "user": {"user_id": "bob"}, ' + rest + "}",
        r'{"user_id": "ann", "say": "\"user_id\": 1", ' + rest + "}",
    ]
    path.write_text("\n".join(lines))
    mapping = LogMapping(path=str(path), value_col="rating")
    batches = list(read(mapping, find_files(mapping), contracts.wanted_columns(mapping)))
    good, bad = contracts.check(pl.concat(batches), mapping, NOW)
    assert good["line"].to_list() == [1, 5, 6]
    assert bad.select("line", "rules", "user_id").rows() == [
        (line, ["repeated_key"], None) for line in (2, 3, 4)
    ]
