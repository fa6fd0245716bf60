"""A user is forgotten however the rows of the log spell the id, and nobody else loses a row."""

import csv
import datetime
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from counting import Faults
from deltalake import DeltaTable, write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from traces import found_in

from recmeta import schema
from recmeta.logs.mapping import LogMapping
from recmeta.logs.quarantined import mentions
from recmeta.steps.data import ingest
from recmeta.steps.upkeep import forget
from recmeta.workspace import Workspace

KIND = "a user is forgotten whose quarantined rows spell the id in another way"
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
COLUMNS = ("user_id", "item_id", "timestamp", "rating", "remark")
FORMATS = (
    "csv",
    "tsv",
    "utf-16",
    "latin-1",
    "latin-1 as utf-8",
    "jsonl",
    "ascii",
    "parquet",
    "delta",
)
ODD = "ab1 .*+?^$()[]{}|\\/\"',;:#%&<>=@~`-_é\u0301漢🙂\u200d\u202e\t00"
ODD_LATIN = "ab1 .*+?^$()[]{}|\\/\"',;:#%&<>=@~`-_éßÄ÷00"
OTHERS = st.text(st.sampled_from(ODD), min_size=1, max_size=4)

Row = tuple[str, list[Any]]
"""Whose a row is, and its fields."""


@st.composite
def ids(draw: st.DrawFn, format_: str) -> str:
    letters = st.sampled_from(ODD_LATIN)
    if "latin" not in format_:
        letters = st.sampled_from(ODD) | st.characters(exclude_categories=["Cs", "Cc"])
    odd = draw(st.text(letters, max_size=8))
    return f"0zq{odd}whom-nobody-is-named-after"


def rows_of(user: str, mentioned: str) -> list[Row]:
    """A row that is accepted, and one for each way into the quarantine but those of the form."""
    fields = [
        [user, "i", 5, 3.0, mentioned],
        [f"  {user} ", mentioned, 5, 9.0, "out of scale"],
        [user, "k", 32503680000, 3.0, mentioned],
        [user, "", 5, 3.0, mentioned],
        [user, mentioned, 5, 1.0, "superseded"],
        [user, mentioned, 5, 2.0, "by this"],
    ]
    return [(user, row) for row in fields]


def write(folder: Path, format_: str, rows: Sequence[Row], broken: Sequence[str]) -> LogMapping:
    """Write a log: rows, then a row that is broken in its form for each of some users."""
    fields: dict[str, Any] = {}
    if format_ in ("parquet", "delta"):
        table = pa.table({name: [row[n] for _, row in rows] for n, name in enumerate(COLUMNS)})
        path = folder / f"log.{format_}"
        if format_ == "parquet":
            pq.write_table(table, path)
        else:
            write_deltalake(str(path), table)
    elif format_ in ("jsonl", "ascii"):
        objects = [dict(zip(COLUMNS, row, strict=True)) for _, row in rows]
        lines = [json.dumps(found, ensure_ascii=format_ == "ascii") for found in objects]
        lines += [
            json.dumps({"user_id": user}, ensure_ascii=format_ == "ascii")[:-1] for user in broken
        ]
        path = folder / "log.jsonl"
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        text = io.StringIO()
        separator = "\t" if format_ == "tsv" else ","
        writer = csv.writer(text, delimiter=separator, lineterminator="\n")
        writer.writerows([COLUMNS, *(row for _, row in rows), *([u, "few"] for u in broken)])
        path = folder / f"log.{'tsv' if format_ == 'tsv' else 'csv'}"
        encoding = format_.partition(" ")[0] if format_ not in ("csv", "tsv") else "utf-8"
        path.write_bytes(text.getvalue().encode(encoding))
        fields["encoding"] = "utf-8" if format_.endswith("utf-8") else encoding
    return LogMapping(
        path=str(path), time_col="timestamp", value_col="rating", scale="1:5", max_bad_share=1.0,
        earliest_time="1970-01-01",
        **fields,
    )  # fmt: skip


def lines_of(workspace: Workspace) -> set[int]:
    return set(pl.read_delta(workspace.table_uri(schema.QUARANTINE))["line"])


def accepted(workspace: Workspace) -> list[str]:
    return sorted(pl.read_delta(workspace.table_uri(schema.INTERACTIONS))["user_id"])


def test_no_byte_of_the_user_is_left_and_nobody_else_is_touched(faults: Faults) -> None:
    @settings(
        max_examples=faults.number(sample=3, all_of_them=60),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data(), st.sampled_from(FORMATS), st.booleans())
    def forgotten(data: st.DataObject, format_: str, are_mentioned: bool) -> None:
        user = data.draw(ids(format_))
        near = [f"{user}1", f"x{user}", user[:-1], user.replace("zq", "ZQ")]
        others = near if are_mentioned else ["7", "ann"]
        rows = rows_of(user, "7") + [
            row for other in others for row in rows_of(other, user if are_mentioned else "i7")
        ]
        broken = [user, *others]
        with tempfile.TemporaryDirectory() as folder:
            mapping = write(Path(folder), format_, rows, broken)
            workspace = Workspace(Path(folder, "ws"))
            ingest.run(mapping, workspace, now=NOW)
            header = 0 if format_ in ("jsonl", "ascii", "parquet", "delta") else 1
            owners = dict(enumerate([*(owner for owner, _ in rows), *broken], start=1 + header))
            before, users = lines_of(workspace), accepted(workspace)
            forget.run(workspace, [user], now=NOW)
            faults.inject(KIND)
            case = f"{format_}, {user!r}"
            left = {line for line in before if owners[line] != user}
            faults.check(lines_of(workspace) == left, f"{case}: quarantine")
            kept = [other for other in users if other != user]
            faults.check(accepted(workspace) == kept, f"{case}: interactions")
            if not are_mentioned:
                places = found_in(Path(folder, "ws"), user)
                faults.check(not places, f"{case}: still in {places}")

    forgotten()


@pytest.mark.parametrize(
    ("raw", "user"),
    [
        (r'{"user_id": "\u0061nn", ', "ann"),
        (r'{"user_id": "\ud83d\ude42a", ', "🙂a"),
        ('"an""n",x', 'an"n'),
        (r'"an\"n",x', 'an"n'),
        ("u%C3%A9,x", "ué"),
        (r"u\xe9,x", "ué"),
        (r"\xff\xfeu\x001\x00,\x00", "u1"),
        ("u\x00\x22\x6f,\x00", "u漢"),
        ("josÃ©,x", "josé"),
        ("tom&amp;jerry,x", "tom&jerry"),
        (r'"{""user_id"": ""\\u0061nn""}",', "ann"),
        ('{"user_id":7.0', "7"),
        ("e\u0301va,x", "éva"),
    ],
)  # fmt: skip
def test_a_row_of_which_nobody_knows_whose_it_is(raw: str, user: str) -> None:
    """Its fields cannot be told apart, or an earlier version did not say whose it is."""
    raw = raw.replace(r"\x00", "\0") if "xff" in raw else raw
    assert mentions(raw, [user])
    assert not mentions(raw, [f"{user}1", f"x{user}", "nobody"])


def test_no_byte_of_anothers_id_is_passed_over() -> None:
    """Of an id in another encoding, what is left without some of its bytes is not looked for."""
    for raw in (
        r"x\xe9u1,i",
        r"xu1\xf7,i",
        "x\0u\x001\0,\0",
        r"u1\xe9",
        "\ufffdu1x",
    ):
        assert not mentions(raw, ["u1"])
    assert not mentions(r"a\xe9b,i", ["ab"])


def test_a_quarantine_of_an_earlier_version(tmp_path: Path) -> None:
    """It has no column of the user."""
    workspace = Workspace(tmp_path)
    known = [f for f in schema.QUARANTINE.columns if f.name not in ("user_id", "item_id", "value")]
    columns = pa.schema([f for f in known if f.name not in ("timestamp", "event")])
    raws = ['"an""n",i', '"an""n1",i', "x,i", ',"an""n"']
    rules = [["ragged_line"], ["ragged_line"], ["superseded"], ["missing_user_id"]]
    rows = [
        {"source": "s", "file": "f", "line": n, "rules": rule, "raw": raw, "ingested_at": NOW}
        for n, (raw, rule) in enumerate(zip(raws, rules, strict=True))
    ]
    uri = workspace.table_uri(schema.QUARANTINE)
    write_deltalake(uri, pa.Table.from_pylist(rows, schema=columns))
    assert forget.run(workspace, ['an"n']).removed["quarantine"] == 1
    assert sorted(DeltaTable(uri).to_pyarrow_table()["raw"].to_pylist()) == sorted(raws[1:])
