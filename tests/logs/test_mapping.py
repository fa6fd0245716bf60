"""Mappings: read strictly, and wrong ones refused with what to do."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from recmeta.errors import UserError
from recmeta.logs.mapping import LogMapping, load_mapping, parse_scale
from recmeta.logs.reading.files import Inputs, format_of, source_id

TOML = """
path = "events.csv"
user_col = "uid"
value_col = "stars"
scale = "1:5"

[items]
path = "/data/items.parquet"
id_col = "sku"
[items.columns.genres]
kind = "multi"
separator = ","
"""


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    import tomllib

    (tmp_path / "log.toml").write_text(TOML)
    (tmp_path / "log.json").write_text(json.dumps(tomllib.loads(TOML)))
    mapping = load_mapping(tmp_path / "log.toml")
    assert mapping == load_mapping(tmp_path / "log.json")
    assert mapping.path == str(tmp_path / "events.csv")
    assert mapping.items is not None
    assert mapping.items.path == "/data/items.parquet"
    assert mapping.items.columns["genres"].separator == ","
    assert mapping.bounds == (1.0, 5.0)
    assert mapping.constant_event == "rating"
    assert LogMapping(path="x.csv").constant_event == "click"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('path = "x.csv"\nusr_col = "u"', "unknown key 'usr_col'. Did you mean 'user_col'"),
        ("user_col = 'u'", "missing key 'path'"),
        ('path = "x.csv"\n[items]\nid_col="i"\npath="y"', "missing key 'items.columns'"),
        ("path = ", "is not valid"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "log.toml").write_text(text)
    with pytest.raises(UserError, match=message):
        load_mapping(tmp_path / "log.toml")
    with pytest.raises(UserError, match="cannot read the mapping"):
        load_mapping(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": ""}, "path is empty"),
        ({"encoding": "klingon"}, "encoding is 'klingon'"),
        ({"time_unit": "sec"}, "time_unit is 'sec'"),
        ({"max_bad_share": 1.5}, "max_bad_share is 1.5"),
        ({"event": "buy", "event_col": "kind"}, "not both"),
        ({"events": {"a": "b"}}, "event_col is not given"),
        ({"scale": "1:5"}, "value_col, which is not given"),
        ({"value_col": "v", "scale": "5:1"}, "scale is '5:1'"),
        ({"value_col": "v", "scale": "five"}, "scale is 'five'"),
        ({"separator": "::", "quote": "'"}, "quoting works with one"),
        ({"quote": "''"}, "one character"),
    ],
)
def test_fields_that_are_wrong(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LogMapping(**{"path": "x.csv", **fields})


def test_scales() -> None:
    assert parse_scale("") == (-math.inf, math.inf)
    assert parse_scale("0:") == (0.0, math.inf)
    assert parse_scale(":5") == (-math.inf, 5.0)
    assert parse_scale("-1.5:1.5") == (-1.5, 1.5)


def test_formats_by_name() -> None:
    assert format_of("a/b.CSV.gz") == "csv"
    assert format_of("http://host/x.ndjson?token=1") == "jsonl"
    assert format_of("x.pq") == "parquet"
    with pytest.raises(UserError, match="--format"):
        format_of("u.data")


def test_the_source_id_is_of_the_content(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("user_id,item_id\n1,2\n")

    def identify(name: str, **fields: Any) -> str:
        mapping = LogMapping(path=str(tmp_path / name), **fields)
        return source_id(mapping, Inputs.of(mapping))

    assert identify("a.csv") == identify("b.csv") == identify("a.csv", max_bad_share=0.5)
    assert identify("a.csv") != identify("a.csv", event="view")
    (tmp_path / "b.csv").write_text("user_id,item_id\n1,3\n")
    assert identify("a.csv") != identify("b.csv")
