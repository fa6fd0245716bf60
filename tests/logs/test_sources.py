"""Reading: whatever the format and however broken the rows, none is lost, hidden or shifted."""

import csv
import gzip
import io
import json
import os
from pathlib import Path

import polars as pl
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from recmeta.errors import UserError
from recmeta.logs.mapping import Source
from recmeta.logs.reading.files import find_files
from recmeta.logs.reading.lines import read_lines
from recmeta.logs.reading.log_format import Wanted
from recmeta.logs.reading.records import Dialect, join_lines, split_fields
from recmeta.logs.reading.sources import read

COLUMNS = Wanted(columns={"user": "user_id", "item": "item_id", "value": "rating"})
# What an id may be made of: everything that a text file can hold but line breaks, and no blanks at
# the ends, which are stripped elsewhere.
FIELD = st.text(
    st.characters(
        codec="utf-8", exclude_characters="\r\n\x00", exclude_categories=["Cs", "Zs", "Cc"]
    ),
    min_size=1,
    max_size=8,
)


def read_all(source: Source, wanted: Wanted = COLUMNS) -> pl.DataFrame:
    return pl.concat(read(source, find_files(source), wanted))


def read_fields(
    data: bytes, dialect: Dialect, names: dict[str, int], block_bytes: int
) -> pl.DataFrame:
    frames, rest = [], None
    for block, last in read_lines(io.BytesIO(data), "utf-8", block_bytes):
        lines = block if rest is None else pl.concat([rest, block])
        records, rest = join_lines(lines, dialect, last)
        frames.append(split_fields(records, dialect, names))
    assert rest is not None
    assert not rest.height
    return pl.concat(frames)


def write(path: Path, content: bytes) -> Source:
    path.write_bytes(content)
    return Source(path=str(path))


def test_a_nasty_csv(tmp_path: Path) -> None:
    source = write(
        tmp_path / "nasty.csv",
        b"\xef\xbb\xbfuser_id,item_id,rating,review\r\n"
        b"u1,i1,5,fine\r\n"
        b'u2,i2,4,"a, quoted"\r\n'
        b'u3,i3,3,"two\r\nlines, ""really"""\r\n'
        b"\r\n"
        b"u4,i4\r\n"
        b"u5,i5,5,a,b,c\r\n"
        b'u6,"i6,5,an id that is never closed\r\n'
        b"u7,i7,2,caf\xe9\r\n"
        b'u8,i8,2,"never closed\r\n'
        b'u9,i9,2,"ok"\r\n'
        b'u10,i10,2,5" disc\r\n'
        b'"u11","i11","2","x"\r\n'
        b'u12,i12,2,"x"junk\r\n'
        b'u13,i13,2,"\r\n"\r\n'
        b"u14,i14,2,the last one has no line break",
    )
    rows = read_all(source)
    broken = rows.filter("ragged_line")["line"].to_list()
    assert broken == [7, 8, 9, 11, 15]
    assert rows.filter("wrong_encoding")["raw"].to_list() == [r"u7,i7,2,caf\xe9"]
    whole = rows.filter(~pl.col("ragged_line"))
    assert whole["line"].to_list() == [2, 3, 4, 10, 12, 13, 14, 16, 18]
    assert whole["user"].to_list() == [f"u{n}" for n in (1, 2, 3, 7, 9, 10, 11, 13, 14)]
    assert whole["item"].to_list() == [f"i{n}" for n in (1, 2, 3, 7, 9, 10, 11, 13, 14)]
    assert rows["raw"][2] == 'u3,i3,3,"two\nlines, ""really"""'
    assert set(rows["file"]) == {"nasty.csv"}


@given(
    rows=st.lists(
        st.tuples(FIELD, FIELD, st.text(st.sampled_from('a ,"\n'), max_size=6)), max_size=12
    ),
    separator=st.sampled_from([",", ";", "\t", "|"]),
    block_bytes=st.integers(1, 60),
)
def test_what_csv_writers_write_is_what_is_read(
    rows: list[tuple[str, str, str]], separator: str, block_bytes: int
) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=separator, lineterminator="\n")
    writer.writerows(rows)
    dialect = Dialect(
        separator=separator, quote='"', escape="", width=3, single_line=frozenset({0, 1})
    )
    names = {"a": 0, "b": 1, "c": 2}
    read_back = read_fields(buffer.getvalue().encode(), dialect, names, block_bytes)
    assert not read_back["ragged_line"].any()
    assert read_back.select("a", "b", "c").rows() == rows


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just(True), FIELD.filter(lambda t: '"' not in t and "," not in t)),
            st.tuples(
                st.just(False),
                st.sampled_from(
                    ["u", "u,i", "u,i,1,2", 'u,"i,1', '"u,i,1', 'u,"i"x,1', '"', ',,,"']
                ),
            ),
        ),
        max_size=20,
    ),
    st.integers(1, 60),
)
def test_broken_lines_never_touch_their_neighbours(
    lines: list[tuple[bool, str]], block_bytes: int
) -> None:
    text = "\n".join(f"{body},item,{n}" if good else body for n, (good, body) in enumerate(lines))
    dialect = Dialect(
        separator=",", quote='"', escape="", width=3, single_line=frozenset({0, 1, 2})
    )
    fields = read_fields(text.encode(), dialect, {"user": 0, "item": 1, "value": 2}, block_bytes)
    assert fields.height == len(lines)
    whole = fields.filter(~pl.col("ragged_line"))
    expected = [(n + 1, body, str(n)) for n, (good, body) in enumerate(lines) if good]
    assert whole.select("line", "user", "value").rows() == expected


@given(st.lists(st.one_of(FIELD.map(str.encode), st.binary(min_size=1, max_size=6)), max_size=15))
def test_undecodable_bytes_mark_their_line_alone(lines: list[bytes]) -> None:
    lines = [line.replace(b"\n", b"").replace(b"\r", b"") for line in lines]
    stream = io.BytesIO(b"".join(b"x" + line + b"\n" for line in lines))
    frame = pl.concat(block for block, _ in read_lines(stream, "utf-8", 16))
    assert frame["line"].to_list() == list(range(1, len(lines) + 1))
    for line, text, wrong in zip(lines, frame["text"], frame["wrong_encoding"], strict=True):
        try:
            assert (text, wrong) == ("x" + line.decode(), False)
        except UnicodeDecodeError:
            assert wrong
            assert text == "x" + line.decode(errors="backslashreplace")


def test_other_encodings(tmp_path: Path) -> None:
    header = "user_id,item_id,rating\n"
    for encoding in ("latin-1", "cp1252", "utf-16"):
        path = tmp_path / f"{encoding}.csv"
        path.write_bytes((header + "é,ü,1\n").encode(encoding))
        rows = read_all(Source(path=str(path), encoding=encoding))
        assert rows.select("user", "item", "wrong_encoding").rows() == [("é", "ü", False)]
    path.write_bytes(header.encode() + b"a,\x81,1\nb,c,2\n")  # no letter in cp1252
    rows = read_all(Source(path=str(path), encoding="cp1252"))
    assert rows["wrong_encoding"].to_list() == [True, False]


def test_separators_of_several_characters_and_files_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "ratings.dat"
    path.write_bytes(b'1::10::5\n2::2"0::4\n3::30\n')
    source = Source(
        path=str(path),
        format="csv",
        separator="::",
        column_names=("user_id", "item_id", "rating"),
    )
    rows = read_all(source)
    assert rows.select("line", "user", "item", "ragged_line").rows() == [
        (1, "1", "10", False),
        (2, "2", '2"0', False),
        (3, None, None, True),
    ]


def test_backslash_escapes(tmp_path: Path) -> None:
    path = tmp_path / "books.csv"
    path.write_bytes(
        b'"user_id";"item_id";"rating"\n"1";"The \\"Ring\\"; again";"5"\n"2";"b";"4"\n'
    )
    rows = read_all(Source(path=str(path), separator=";", escape="\\"))
    assert rows["item"].to_list() == ['The "Ring"; again', "b"]


@pytest.fixture
def frame() -> pl.DataFrame:
    return pl.DataFrame(
        {"user_id": [1, 2, 3], "item_id": ["a", "b,c", None], "rating": [1.5, 2, 3]}
    )


def test_every_format_gives_the_same_rows(tmp_path: Path, frame: pl.DataFrame) -> None:
    frame.write_csv(tmp_path / "log.csv")
    frame.write_csv(tmp_path / "log.tsv", separator="\t")
    frame.write_ndjson(tmp_path / "log.jsonl")
    frame.write_parquet(tmp_path / "log.parquet")
    write_deltalake(str(tmp_path / "log"), frame.to_arrow())
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress((tmp_path / "log.csv").read_bytes()))
    folder = tmp_path / "many"
    folder.mkdir()
    frame[:2].write_csv(folder / "1.csv")
    frame[2:].write_csv(folder / "2.csv")
    (folder / "_SUCCESS").touch()
    roles = ["user", "item", "value"]
    read_back = {
        name: read_all(Source(path=str(tmp_path / name))).select(roles)
        for name in ("log.csv", "log.tsv", "log.csv.gz", "log.jsonl", "log.parquet", "log", "many")
    }
    for rows in read_back.values():
        as_text = rows.with_columns(
            pl.col("user").cast(pl.String), pl.col("item").replace("", None)
        )
        as_text = as_text.with_columns(pl.col("value").cast(pl.Float64))
        assert as_text.sort("user").rows() == [
            ("1", "a", 1.5),
            ("2", "b,c", 2.0),
            ("3", None, 3.0),
        ]
    assert read_all(Source(path=str(folder)))["file"].to_list() == ["1.csv", "1.csv", "2.csv"]
    assert_frame_equal(read_back["log.parquet"], read_back["log"].sort("user"))


def test_json_lines_however_broken(tmp_path: Path) -> None:
    good = {"user_id": 2**53 + 1, "item_id": 'a "b"', "rating": 4.5, "other": [1]}
    lines = [
        json.dumps(good),
        "{",
        "",
        "[1, 2]",
        '"text"',
        "null",
        '{"user_id": "u", "rating": null}',
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(lines) + "\n")
    rows = read_all(Source(path=str(path)))
    assert rows["line"].to_list() == [1, 2, 4, 5, 6, 7]
    assert rows["unparsable_json"].to_list() == [False, True, True, True, True, False]
    assert rows.select("user", "item", "value").row(0) == (str(2**53 + 1), 'a "b"', "4.5")
    assert rows.select("user", "item", "value").row(5) == ("u", None, None)


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.parquet"])
def test_a_missing_column_names_those_there_are(
    tmp_path: Path, frame: pl.DataFrame, name: str
) -> None:
    frame = frame.rename({"user_id": "userid"})
    writers = {
        "log.csv": frame.write_csv,
        "log.jsonl": frame.write_ndjson,
        "log.parquet": frame.write_parquet,
    }
    writers[name](tmp_path / name)
    with pytest.raises(
        UserError, match=r"'user_id'.*Did you mean 'userid'.*userid, item_id, rating"
    ):
        read_all(Source(path=str(tmp_path / name)))


def test_files_that_are_not_what_they_say(tmp_path: Path) -> None:
    (tmp_path / "log.parquet").write_bytes(b"user_id,item_id,rating\n")
    with pytest.raises(UserError, match="cannot read"):
        read_all(Source(path=str(tmp_path / "log.parquet")))
    (tmp_path / "log.csv.gz").write_bytes(b"\x1f\x8buser_id,item_id,rating\n")
    with pytest.raises(UserError, match="cannot read"):
        read_all(Source(path=str(tmp_path / "log.csv.gz")))
    (tmp_path / "log.csv.gz").write_bytes(
        b"user_id,item_id,rating\n1,2,3\n"
    )  # somebody unpacked it
    assert read_all(Source(path=str(tmp_path / "log.csv.gz"))).height == 1
    (tmp_path / "empty.csv").touch()
    with pytest.raises(UserError, match="empty"):
        read_all(Source(path=str(tmp_path / "empty.csv")))
    with pytest.raises(UserError, match="nothing at"):
        read_all(Source(path=str(tmp_path / "absent.csv")))
    (tmp_path / "log.csv").write_text("user_id;item_id;rating\n1;2;3\n")
    with pytest.raises(UserError, match="is ',' the separator"):
        read_all(Source(path=str(tmp_path / "log.csv")))
    (tmp_path / "log.csv").write_text("user_id,item_id,item_id,rating\n")
    with pytest.raises(UserError, match="2 columns named 'item_id'"):
        read_all(Source(path=str(tmp_path / "log.csv")))


def test_a_url(tmp_path: Path, frame: pl.DataFrame) -> None:
    import functools
    import http.server
    import threading

    frame.write_csv(tmp_path / "log.csv")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        rows = read_all(Source(path=f"{address}/log.csv?version=1"))
        with pytest.raises(UserError, match="404"):
            read_all(Source(path=f"{address}/absent.csv"))
        server.shutdown()
    assert rows["user"].to_list() == ["1", "2", "3"]


def test_a_url_that_breaks_off_is_not_half_a_log() -> None:
    import http.server
    import threading

    class BreaksOff(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"user_id,item_id,rating\n1,2,3\n")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), BreaksOff) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(UserError, match="broke off after 29 of 1000 bytes"):
            read_all(Source(path=f"http://127.0.0.1:{server.server_port}/log.csv"))


def test_a_pipe_is_refused_with_what_to_do(tmp_path: Path) -> None:
    pipe = tmp_path / "log.csv"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match="write its output to a file"):
        find_files(Source(path=str(pipe)))
