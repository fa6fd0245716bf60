"""Text that people write, as their editors save it."""

import codecs
import datetime
from pathlib import Path

import pytest

from recmeta.config import read_toml
from recmeta.endpoint.guard.keys import read_keys
from recmeta.errors import UserError
from recmeta.handwritten import lines, read_text
from recmeta.logs.mapping import load_mapping
from recmeta.serving.rules import Rules
from recmeta.steps.parts.item_facts import item_facts
from recmeta.workspace import Workspace

TEXT = "é1\ni2\n"
KEY = "k" * 20
EDITORS = {
    "plain": TEXT.encode(),
    "bom": codecs.BOM_UTF8 + TEXT.encode(),
    "windows": TEXT.replace("\n", "\r\n").encode(),
    "old mac": TEXT.replace("\n", "\r").encode(),
    "utf-16": TEXT.encode("utf-16"),
    "utf-16-be": codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    "without a mark": TEXT.encode("utf-16-le"),
    "utf-32": TEXT.encode("utf-32"),
}


@pytest.mark.parametrize("editor", EDITORS)
def test_a_text_is_the_same_whatever_the_editor(tmp_path: Path, editor: str) -> None:
    path = tmp_path / "text"
    path.write_bytes(EDITORS[editor])
    assert read_text(path, "text") == TEXT


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("é1\ni2\nü".encode("latin-1"), r"neither UTF-8 nor UTF-16 \(line 1\): save it as UTF-8"),
        (b"PK\x03\x04\x00\x00\x08", "is not text"),
        (TEXT.encode("utf-16")[:-1], "neither UTF-8 nor UTF-16"),
        (None, "cannot read the list .*: No such file"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, data: bytes | None, message: str) -> None:
    path = tmp_path / "text"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError, match=message):
        read_text(path, "list")


def test_quotes_around_a_whole_line_are_the_spreadsheets() -> None:
    text = """ "i1" \n'i2'\n"say ""hi\"""\n5" screen\n\n"""
    assert lines(text) == ["i1", "i2", 'say "hi"', '5" screen', "", ""]


def denied(path: Path) -> list[str]:
    now = datetime.datetime.now(datetime.UTC)
    return list(item_facts(Rules(deny=str(path)), Workspace(path.parent), now).denied)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_every_file_that_people_write_is_read_so(tmp_path: Path, encoding: str) -> None:
    def written(name: str, text: str) -> Path:
        (tmp_path / name).write_bytes(text.replace("\n", "\r\n").encode(encoding))
        return tmp_path / name

    assert denied(written("deny.txt", 'item_id\n"i1"\n i2 \n\n')) == ["i1", "i2"]
    assert denied(written("deny.csv", 'item_id,why\n"i,1","old\nand broken"\ni2,\n')) == [
        "i,1",
        "i2",
    ]
    assert denied(written("deny.CSV", "sep=;\nwhy; item_id\nold;i1\nno;i2\n")) == ["i1", "i2"]
    assert denied(written("deny.tsv", "item_id\twhy\ni1\told\n")) == ["i1"]
    keys = read_keys(written("keys", f"# ours\n\nweb: {KEY}\n"))
    assert keys is not None
    assert keys.name_of(KEY) == "web"
    assert read_toml(written("c.toml", "[score]\ntop_k = 3\n")) == {"score": {"top_k": 3}}
    assert load_mapping(written("m.toml", 'path = "é.csv"\n')).path == str(tmp_path / "é.csv")
    assert load_mapping(written("m.json", '{"path": "é.csv"}\n')).path == str(tmp_path / "é.csv")


def test_ids_with_commas_brackets_and_signs_of_remarks_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "deny.txt"
    for text, ids in (
        ('["i1", 2]\n', ["2", "i1"]),
        ("[a]\n[b]\n", ["[a]", "[b]"]),
        ('"Smith, John"\n', ["Smith, John"]),
        ('"a, b" , c,"d" # old\n', ["a, b", "c", "d"]),
        ('"Model # 5"  # old\nC#\n#7\n', ["#7", "C#", "Model # 5"]),
        ("a,b\nc\n", ["a,b", "c"]),
        ('"Weird" one, b', ['"Weird" one', "b"]),
        ("# nothing\n\n", []),
    ):
        path.write_text(text)
        assert denied(path) == ids


def test_a_table_without_the_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deny.csv"
    for text, message in (
        ("Item ID,why\ni1,\n", "mean 'Item ID'"),
        ("", "It has: none"),
        ("\n\n", "none"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            denied(path)
    (tmp_path / "deny.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        denied(tmp_path / "deny.parquet")
