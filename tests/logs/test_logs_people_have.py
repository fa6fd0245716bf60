"""Logs as public data sets, databases, spreadsheets and editors write them: what is read of each.

The small ones here are written here. Others are read from a shared folder, where there is one.
"""

import bz2
import dataclasses
import datetime
import gzip
import json
import lzma
import os
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recmeta.errors import UserError
from recmeta.logs.checking import contracts
from recmeta.logs.mapping import AttributeSource, LogMapping, load_mapping
from recmeta.logs.reading.columns import guess_attributes
from recmeta.logs.reading.files import Inputs, find_files, source_id
from recmeta.logs.reading.log_format import Wanted
from recmeta.logs.reading.sources import read, read_frame
from recmeta.steps.data import ingest

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
CASES = Path(os.environ.get("RECMETA_SHARED_DATA", "../shared/data")).parent / "cases"
RATED: dict[str, Any] = {"value_col": "rating"}
TIMED: dict[str, Any] = {**RATED, "time_col": "ts"}
ISO: dict[str, Any] = {**TIMED, "time_unit": "iso"}
ROWS = "u1,i1,3,1700000000\nu2,i2,4,1700000001\n"
HEADER = "user_id,item_id,rating,ts\n"


def tried(path: Path, **fields: Any) -> ingest.Tried:
    items = fields.pop("items", None)
    mapping = LogMapping(path=str(path), **fields)
    if items is not None:
        mapping = dataclasses.replace(mapping, items=items)
    return ingest.dry_run(mapping, now=NOW)


def counts(path: Path, **fields: Any) -> tuple[int, int, int]:
    """Rows accepted, duplicates and in quarantine."""
    found = tried(path, **fields).counts
    assert found["rows_read"] == sum(found[n] for n in ("accepted", "duplicates", "quarantined"))
    return found["accepted"], found["duplicates"], found["quarantined"]


READ_AS_ISO = "basic commafrac gmtoff hour24 javazoned leap ns9 pg pys slash tznospace utc"
PACKED = "a.csv.gz a.csv.xz a.csv.zip a.zip gzinside.csv multi.csv.bz2 multi.csv.gz multi.csv.zst"
OF_50_ROWS = "A.CSV array.json cols.json pandasindex.csv pretty.json single.json"
SHARED: list[tuple[str, dict[str, Any], tuple[int, int, int] | str]] = [
    *(
        (f"26-times/{name}.csv", ISO, (20, 0, 0))
        for name in (
            [
                "basic",
                "commafrac",
                "gmtoff",
                "hour24",
                "javazoned",
                "leap",
                "ns9",
                "pg",
                "pys",
                "slash",
                "tznospace",
                "utc",
            ]
        )
    ),
    ("26-times/eu.csv", ISO, "--time-unit '%d.%m.%Y %H:%M'"),
    ("26-times/us.csv", ISO, "--time-unit '%m/%d/%Y %H:%M'"),
    ("26-times/rfc2822.csv", ISO, "--time-unit '%a, %d %b %Y %H:%M:%S GMT'"),
    ("26-times/tzname.csv", ISO, "UTC and GMT are the only zone names"),
    ("26-times/y1.csv", ISO, "20 of 20 times are before 1990-01-01"),
    ("26-times/y1.csv", {**ISO, "earliest_time": "0001-01-01"}, (20, 0, 0)),
    ("26-times/floats.csv", TIMED, (20, 0, 0)),
    ("26-times/secondsasms.csv", TIMED, (20, 0, 0)),
    ("26-times/secondsasms.csv", {**TIMED, "time_unit": "ms"}, "Are they seconds?"),
    ("26-times/mixed_few.csv", TIMED, (40, 0, 0)),
    ("26-times/mixed_s_ms.csv", TIMED, "10 of 20 rows"),
    ("26-times/int96.parquet", {**TIMED, "max_bad_share": 0.5}, (2, 0, 1)),
    ("26-times/ns_tz.parquet", {**TIMED, "max_bad_share": 0.5}, (2, 0, 1)),
    ("27-values/comma.csv", RATED, "--decimal ','"),
    ("27-values/comma.csv", {**RATED, "decimal": ","}, (21, 0, 0)),
    ("27-values/thousand.csv", RATED, "--decimal '.'"),
    ("27-values/thousand.csv", {**RATED, "decimal": "."}, (21, 0, 0)),
    ("27-values/bool.csv", RATED, (21, 0, 0)),
    ("27-values/plus.csv", RATED, (21, 0, 0)),
    *(
        (f"27-values/{name}.csv", RATED, "not plain numbers")
        for name in ["arab", "currency", "exp", "frac", "letters", "pct", "stars"]
    ),
    ("22-ids/ids.csv", RATED, (20, 0, 0)),
    ("22-ids/ids.jsonl", RATED, (11, 0, 1)),
    ("22-ids/u64.parquet", RATED, (3, 0, 0)),
    ("20-pandas/floatids.csv", {**RATED, "max_bad_share": 0.3}, (3, 0, 1)),
    ("20-pandas/floatids.parquet", {**RATED, "max_bad_share": 0.3}, (3, 0, 1)),
    ("20-pandas/index.parquet", RATED, (2, 0, 0)),
    ("21-encoding/bom_crlf.csv", TIMED, (50, 0, 0)),
    ("21-encoding/cr.csv", TIMED, (50, 0, 0)),
    ("21-encoding/utf16.csv", TIMED, (50, 0, 0)),
    ("21-encoding/utf16le_nobom.csv", TIMED, (50, 0, 0)),
    ("21-encoding/cp1252.csv", TIMED, "--encoding cp1252"),
    ("21-encoding/cp1252.csv", {**TIMED, "encoding": "cp1252"}, (9, 0, 0)),
    ("23-nulls/hive.csv", {"time_col": "ts"}, "stand for nothing"),
    ("23-nulls/na.csv", {"time_col": "ts"}, "missing_user_id (2000 rows"),
    *(
        (f"24-compress/{name}", TIMED, (50, 0, 0))
        for name in (
            [
                "a.csv.gz",
                "a.csv.xz",
                "a.csv.zip",
                "a.zip",
                "gzinside.csv",
                "multi.csv.bz2",
                "multi.csv.gz",
                "multi.csv.zst",
            ]
        )
    ),
    ("24-compress/trunc.csv.gz", TIMED, "cannot read 'trunc.csv.gz'"),
    *(
        (f"25-formats/{name}", TIMED, (50, 0, 0))
        for name in [
            "A.CSV",
            "array.json",
            "cols.json",
            "pandasindex.csv",
            "pretty.json",
            "single.json",
        ]
    ),
    ("25-formats/a.txt", TIMED, "set format (--format)"),
    ("25-formats/a.txt", {**TIMED, "format": "csv"}, (50, 0, 0)),
    ("25-formats/a.db", TIMED, "is an SQLite database"),
    ("25-formats/a.feather", TIMED, "is an Arrow (Feather) file"),
    ("28-folder/daily", TIMED, (150, 0, 0)),
    *((f"28-folder/{name}", TIMED, (50, 0, 0)) for name in ("empty", "parts", "sp")),
    *((f"28-folder/{name}", TIMED, (50, 50, 0)) for name in ("both", "colorder")),
    ("28-folder/noext", {**TIMED, "format": "csv"}, (50, 0, 0)),
    ("29-header/case.csv", TIMED, "Did you mean 'User_ID'?"),
    ("29-header/comment.csv", TIMED, (50, 0, 0)),
    ("29-header/dup.csv", RATED, "2 columns named 'rating'"),
    ("29-header/mid.csv", TIMED, (100, 0, 0)),
    ("29-header/mid_click.csv", {}, (34, 6, 0)),
    ("29-header/quoted.csv", TIMED, (9, 0, 0)),
    ("29-header/sep.csv", TIMED, (1, 0, 0)),
    ("29-header/spacequote.csv", TIMED, (2, 0, 0)),
    ("29-header/spaces.csv", TIMED, (50, 0, 0)),
    ("29-header/trailing.csv", TIMED, (1, 2, 0)),
    ("29-header/trailing_data.csv", TIMED, (5, 0, 0)),
    ("18-spark/events", {**ISO, "time_col": "dt"}, (80, 0, 0)),
    ("18-spark/byevent", {"event_col": "event_type"}, (20, 0, 0)),
    ("05-goodreads/m.toml", {}, (100, 0, 0)),
    ("08-headerless/m.toml", {}, (80, 0, 0)),
    ("10-lastfm360k/m.toml", {}, (150, 0, 0)),
    ("11-anime/m.toml", {}, (180, 0, 0)),
    ("02-netflix/combined_data_1.txt", {"format": "csv"}, "as the Netflix Prize has"),
    (
        "06-steam/steam_reviews.json.gz",
        {"user_col": "username", "item_col": "product_id"},
        "dictionaries as Python prints them",
    ),
    ("08-headerless/UserBehavior.csv", {}, "--column-names"),
    (
        "09-mind/behaviors.tsv",
        {
            "column_names": ("imp", "user_id", "ts", "history", "impressions"),
            "item_col": "impressions",
            "item_separator": " ",
            "item_suffix": "-",
            "time_col": "ts",
            "time_unit": "%m/%d/%Y %I:%M:%S %p",
        },
        (40, 0, 0),
    ),
    (
        "12-jester/jester-data-1.csv",
        {
            "layout": "matrix",
            "header": False,
            "user_col": "",
            "skip_columns": ("column_1",),
            "null_values": ("99",),
            "scale": "-10:10",
        },
        (96, 0, 0),
    ),
    (
        "13-rees46/2019-Oct.csv",
        {
            "item_col": "product_id",
            "time_col": "event_time",
            "time_unit": "iso",
            "event_col": "event_type",
        },
        (100, 0, 0),
    ),
    (
        "14-ga4/events_20210131.json",
        {
            "user_col": "user_pseudo_id",
            "item_col": "items.item_id",
            "time_col": "event_timestamp",
            "time_unit": "us",
        },
        (80, 0, 0),
    ),
    (
        "15-nested/segment.jsonl",
        {
            "user_col": "userId",
            "item_col": "properties.product_id",
            "time_col": "timestamp",
            "time_unit": "iso",
        },
        (80, 0, 0),
    ),
    (
        "15-nested/debezium.jsonl",
        {"user_col": "after.user_id", "item_col": "after.item_id", "value_col": "after.rating"},
        (80, 0, 0),
    ),
    ("62-typed/list.parquet", RATED, (4, 0, 0)),
    ("62-typed/struct.parquet", {**RATED, "user_col": "user"}, "holds structures"),
    ("62-typed/struct.parquet", {**RATED, "user_col": "user.id"}, (2, 0, 0)),
    ("62-typed/uuid16.parquet", RATED, (2, 0, 0)),
    ("62-typed/decimal.parquet", RATED, (3, 0, 0)),
]


@pytest.mark.parametrize(
    ("place", "fields", "expected"), SHARED, ids=[f"{p}-{n}" for n, (p, *_) in enumerate(SHARED)]
)
def test_what_public_layouts_become(
    place: str, fields: dict[str, Any], expected: tuple[int, int, int] | str
) -> None:
    path = CASES / place
    if not path.exists():
        pytest.skip("the shared folder is not there")

    def found() -> tuple[int, int, int]:
        if path.suffix != ".toml":
            return counts(path, **fields)
        read = ingest.dry_run(load_mapping(path), now=NOW).counts
        return read["accepted"], read["duplicates"], read["quarantined"]

    if isinstance(expected, str):
        with pytest.raises(UserError) as caught:
            found()
        assert expected in str(caught.value)
        assert len(str(caught.value)) < 2000
        assert str(caught.value).isprintable()
    else:
        assert found() == expected


@pytest.mark.parametrize(
    "name", [f.stem for f in sorted((CASES / "63-itemtypes").glob("*.parquet"))]
)
def test_no_type_of_an_attribute_is_a_crash(name: str) -> None:
    items = guess_attributes(
        AttributeSource(
            path=str(CASES / f"63-itemtypes/{name}.parquet"), id_col="item_id", columns={}
        ),
        "item_id",
    )
    found = tried(CASES / "63-itemtypes/ev.csv", **RATED, items=items)
    assert (found.counts["accepted"], found.counts["items"]) == (2, 30)
    assert found.findings.items_known == 2


def test_packed_files_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    text = (HEADER + ROWS).encode()
    (tmp_path / "a.csv").write_bytes(gzip.compress(text))
    (tmp_path / "b.csv.xz").write_bytes(lzma.compress(text))
    (tmp_path / "c.csv.gz").write_bytes(bz2.compress(text))
    for name in ("a.csv", "b.csv.xz", "c.csv.gz"):
        assert counts(tmp_path / name, **TIMED) == (2, 0, 0)
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("ml/README.txt", "what it is")
        archive.writestr("__MACOSX/._a.csv", "\0")
        archive.writestr("ml/a.csv", text)
        archive.writestr("ml/b.csv", HEADER + "u3,i3,5,1700000002\n")
    assert counts(tmp_path / "d.zip", **TIMED) == (3, 0, 0)
    (tmp_path / "e.zip").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(UserError, match="not a complete zip archive"):
        counts(tmp_path / "e.zip")


def test_encodings_and_line_ends_of_other_systems(tmp_path: Path) -> None:
    text = HEADER + ROWS
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        (tmp_path / "a.csv").write_bytes(text.encode(encoding))
        assert counts(tmp_path / "a.csv", **TIMED) == (2, 0, 0), encoding
    (tmp_path / "a.csv").write_bytes(text.replace("\n", "\r").encode())
    assert counts(tmp_path / "a.csv", **TIMED) == (2, 0, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEADER + ROWS + HEADER + "u3,i3,5,1700000002\n", (3, 0, 0)),
        ("sep=;\n" + (HEADER + ROWS).replace(",", ";"), (2, 0, 0)),
        ("# exported today\n" + HEADER + ROWS, (2, 0, 0)),
        (HEADER + ROWS.replace("\n", ",\n"), (2, 0, 0)),
        ('user_id, item_id, rating, ts\nu1, "i, 1", 3, 1700000000\n', (1, 0, 0)),
    ],
)
def test_headers_as_programs_write_them(
    tmp_path: Path, text: str, expected: tuple[int, int, int]
) -> None:
    (tmp_path / "a.csv").write_text(text)
    assert counts(tmp_path / "a.csv", **TIMED) == expected
    notes = tried(tmp_path / "a.csv", **TIMED).notes
    said = "Lines skipped because they are copies of the header: 1."
    assert (said in notes) == (text.count(HEADER) > 1)


def test_a_folder_as_spark_leaves_it(tmp_path: Path) -> None:
    for day, rows in (("2024-01-01", ROWS), ("2024-01-02", "u3,i3,5,1700000002\n")):
        folder = tmp_path / "log" / f"dt={day}"
        folder.mkdir(parents=True)
        (folder / "part-00000.csv").write_text(HEADER + rows)
        (folder / "part-00001.csv").touch()
        (folder / "_SUCCESS").touch()
    (tmp_path / "log" / "_temporary").mkdir()
    (tmp_path / "log" / "_temporary" / "part.csv").write_text("broken")
    (tmp_path / "log" / "README.md").write_text("what it is")
    found = tried(tmp_path / "log", **RATED, time_col="dt", time_unit="iso")
    assert found.counts["accepted"] == 3
    assert found.findings.first_time == "2024-01-01T00:00:00+00:00"
    assert found.findings.last_time == "2024-01-02T00:00:00+00:00"
    # What a folder's name says is a part of the content, where it is read.
    mapping = LogMapping(path=str(tmp_path / "log"), **RATED, time_col="dt", time_unit="iso")
    before = source_id(mapping, Inputs.of(mapping))
    (tmp_path / "log" / "dt=2024-01-02").rename(tmp_path / "log" / "dt=2024-01-03")
    assert source_id(mapping, Inputs.of(mapping)) != before


def test_parts_without_a_header_have_that_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "part-0.csv").write_text(HEADER + ROWS)
    (tmp_path / "part-1.csv").write_text("u3,i3,5,1700000002\n")
    (tmp_path / "part-2.csv").write_text("ts,rating,item_id,user_id\n1700000003,1,i1,u4\n")
    assert counts(tmp_path, **TIMED) == (4, 0, 0)


def test_json_that_is_one_document_or_nested(tmp_path: Path) -> None:
    rows = [{"user_id": f"u{n}", "item_id": 2**70 + n, "rating": n} for n in range(1, 4)]
    path = tmp_path / "a.json"
    for text in (
        json.dumps(rows),
        json.dumps(rows, indent=2),
        json.dumps({"next": None, "data": rows}),
        json.dumps({k: {str(n): row[k] for n, row in enumerate(rows)} for k in rows[0]}),
        "\n".join(map(json.dumps, rows)),
    ):
        path.write_text(text)
        assert counts(path, **RATED) == (3, 0, 0)
    mapping = LogMapping(path=str(path))
    batch = rows_of(mapping)
    assert batch["item"].to_list() == [str(2**70 + n) for n in range(1, 4)]
    nested = [{"who": {"id": 7}, "basket": [{"sku": "a", "n": 1}, {"sku": 5, "n": 2}]}]
    path.write_text("\n".join(map(json.dumps, nested)))
    nested_columns = {"user_col": "who.id", "item_col": "basket.sku", "value_col": "basket.n"}
    batch = rows_of(LogMapping(path=str(path), **nested_columns))
    assert batch.select("user", "item", "value").rows() == [("7", "a", "1"), ("7", "5", "2")]
    pl.DataFrame(
        nested[0] | {"basket": [[{"sku": "a", "n": 1}, {"sku": "b", "n": 2}]]}
    ).write_parquet(tmp_path / "a.parquet")
    batch = rows_of(LogMapping(path=str(tmp_path / "a.parquet"), **nested_columns))
    assert batch.select("user", "item", "value").rows() == [(7, "a", 1), (7, "b", 2)]
    with pytest.raises(UserError, match=r"column 'who' holds structures.*such as who\.id"):
        counts(path, user_col="who", item_col="basket.sku")
    path.write_text(json.dumps({"rows": [{"who": "u", "sku": "a"}, {"who": "v", "sku": "b"}]}))
    with pytest.raises(UserError, match=r"'rows\.who' holds lists, and a row is of one user"):
        counts(path, user_col="rows.who", item_col="rows.sku")


def rows_of(mapping: LogMapping) -> pl.DataFrame:
    batches = read(mapping, find_files(mapping), contracts.wanted_columns(mapping))
    return pl.concat(batch for batch in batches if batch.height)


def test_cells_with_several_items_and_matrices(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("user_id\titem_id\nu1\tN1-1 N2-0\nu2\tN1-1\n")
    several = {"item_separator": " ", "item_suffix": "-"}
    batch = rows_of(LogMapping(path=str(tmp_path / "a.tsv"), **several))
    assert batch.select("user", "item", "value").rows() == [
        ("u1", "N1", "1"),
        ("u1", "N2", "0"),
        ("u2", "N1", "1"),
    ]
    (tmp_path / "b.csv").write_text("who,age,x,y,z\nann,30,5,99,\nbob,40,NA,1,2\n")
    matrix = {"layout": "matrix", "user_col": "who", "skip_columns": ("age",)}
    mapping = LogMapping(path=str(tmp_path / "b.csv"), null_values=("99",), **matrix)
    batch = rows_of(mapping)
    assert batch.select("user", "item", "value", "line").rows() == [
        ("ann", "x", "5", 2),
        ("bob", "y", "1", 3),
        ("bob", "z", "2", 3),
    ]
    assert counts(tmp_path / "b.csv", null_values=("99",), **matrix) == (3, 0, 0)


def test_bytes_are_text_where_they_are_and_uuids_where_they_are_16(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"a": [b"u1", b"u2"], "b": [bytes(range(200, 216)), bytes(16)], "c": 2 * [b"\xff"]}
    )

    (batch,) = read_frame(frame, "frame", Wanted(columns={n: n for n in "abc"}))
    assert batch["a"].to_list() == ["u1", "u2"]
    assert batch["b"][0] == "c8c9cacb-cccd-cecf-d0d1-d2d3d4d5d6d7"
    assert batch["c"].to_list() == ["ff", "ff"]


@pytest.mark.parametrize(
    ("times", "unit", "said"),
    [
        ([19_700 + n for n in range(20)], "s", "Are they days since 1970? Then use --time-unit d"),
        ([20_240_101 + n for n in range(20)], "s", "use --time-unit %Y%m%d"),
        ([1_700_000_000 + n for n in range(20)], "ms", "Are they seconds? Then use --time-unit s"),
        ([0] * 20, "s", "--earliest-time 1970-01-01"),
        ([1_700_000_000_000 + n for n in range(20)], "s", "read with --time-unit ms"),
    ],
)
def test_times_in_a_wrong_unit_are_refused(
    tmp_path: Path, times: list[int], unit: str, said: str
) -> None:
    rows = "".join(f"u{n % 3},i{n},1,{time}\n" for n, time in enumerate(times))
    (tmp_path / "a.csv").write_text(HEADER + rows)
    with pytest.raises(UserError) as caught:
        counts(tmp_path / "a.csv", **TIMED, time_unit=unit)
    assert said in str(caught.value)


def test_what_is_striking_is_told(tmp_path: Path) -> None:
    rows = [f"u{n % 50},{n % 40:03},{n % 5 + 1},1700000000" for n in range(400)]
    rows += [f"guest,{n % 40:03},-1,{1_700_000_000 + n}" for n in range(200)]
    rows += ["caf\u00e9,1,3,0", "cafe\u0301,1,3,1700000000"]
    (tmp_path / "a.csv").write_text(HEADER + "\n".join(rows))
    (tmp_path / "items.csv").write_text(
        "item_id,title\n" + "".join(f"{n},T\n" for n in range(2, 40))
    )
    items = guess_attributes(
        AttributeSource(path=str(tmp_path / "items.csv"), id_col="item_id", columns={}), "item_id"
    )
    found = tried(tmp_path / "a.csv", **TIMED, items=items)
    assert (found.findings.num_items, found.findings.items_known) == (41, 0)
    told = "\n".join(found.notes)
    for said in (
        "1 of 602 times are before 1990-01-01",
        "The user 'guest' has 200 of",
        "200 of 602 values are -1, while the others go from 1 to 5",
        "One of the users is written in several forms",
        "Without leading zeros they would match",
    ):
        assert said in told
    (tmp_path / "b.csv").write_text(HEADER + ROWS)
    assert not tried(tmp_path / "b.csv", **TIMED).notes


def test_messages_about_columns_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",".join(f"column{n}" for n in range(50_000)) + "\n")
    with pytest.raises(UserError, match="and 49,980 more") as caught:
        counts(tmp_path / "a.csv")
    assert len(str(caught.value)) < 500
