"""Attributes of users and items: every kind, from text and typed files."""

from pathlib import Path

import polars as pl
import pytest

from recmeta.errors import UserError
from recmeta.logs.checking.attributes import read_attributes
from recmeta.logs.mapping import Attribute, AttributeSource
from recmeta.logs.reading.files import find_files

ITEMS = """id,name,tags,year,action,drama,since
1,"Toy
Story (1995)",a|b| |a,1995,1,0,0
2,GoldenEye,,n/a,0,0,
,nobody,x,1,1,1,0
3,Heat (1995),c,3000,1,1,1.5
3,Heat (1995),d,1995,1,1,1.5
4
"""
COLUMNS = {
    "title": Attribute(kind="text", column="name"),
    "release_year": Attribute(kind="numeric", column="name", pattern=r"\((\d{4})\)"),
    "year": Attribute(kind="numeric", scale="1900:2030"),
    "tags": Attribute(kind="multi"),
    "genres": Attribute(kind="multi", flags={"Action": "action", "Drama": "drama"}),
}


def test_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text(ITEMS)
    source = AttributeSource(path=str(path), id_col="id", columns=COLUMNS, valid_from_col="since")
    items, bad = read_attributes(source, find_files(source), "item_id")
    assert items.drop("valid_from").rows() == [
        ("1", "Toy\nStory (1995)", 1995.0, 1995.0, ["a", "b"], ["Action"]),
        ("2", "GoldenEye", None, None, None, []),
        ("3", "Heat (1995)", 1995.0, 1995.0, ["d"], ["Action", "Drama"]),
    ]
    assert items["valid_from"].dt.epoch("ms").to_list() == [0, None, 1500]
    assert bad.select("line", "rules").rows() == [(5, ["missing_item_id"]), (8, ["ragged_line"])]


def test_lists_in_parquet_and_json(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id": ["1", "2"], "tags": [["a", "b"], None]})
    frame.write_parquet(tmp_path / "items.parquet")
    frame.write_ndjson(tmp_path / "items.jsonl")
    for name in ("items.parquet", "items.jsonl"):
        columns = {"tags": Attribute(kind="multi")}
        source = AttributeSource(path=str(tmp_path / name), id_col="id", columns=columns)
        items, _ = read_attributes(source, find_files(source), "item_id")
        assert items["tags"].to_list() == [["a", "b"], None]


def test_names_and_patterns_that_cannot_be(tmp_path: Path) -> None:
    for name in ("item id", "user_id"):
        with pytest.raises(UserError, match=name):
            AttributeSource(path="x.csv", id_col="id", columns={name: Attribute(kind="text")})
    (tmp_path / "items.csv").write_text("id,name\n1,a\n")
    columns = {"name": Attribute(kind="text", pattern="(")}
    source = AttributeSource(path=str(tmp_path / "items.csv"), id_col="id", columns=columns)
    with pytest.raises(UserError, match="regex parse error"):
        read_attributes(source, find_files(source), "item_id")
