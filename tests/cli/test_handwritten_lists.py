"""Lists of items as people's editors save them, and which of their items the catalogue lacks."""

import codecs
import json
from pathlib import Path

import polars as pl
import pytest
from cli_calls import Call, Called

from recmeta import schema


@pytest.fixture
def new_users(tmp_path: Path) -> Path:
    path = tmp_path / "new.csv"
    path.write_text("user_id,item_id,value\na,i1,5\na,i2,1\nb,,\n")
    return path


def listed(called: Called) -> set[str]:
    assert called.code == 0, called.stderr
    table = pl.read_delta(called.json["recommendations"])
    return set(table.filter(pl.col(schema.RUN) == called.json["run"])["item_id"])


def test_a_denied_item_is_in_no_list_whatever_the_editor(
    finished: tuple[Path, Called], recmeta: Call, new_users: Path, tmp_path: Path
) -> None:
    arguments = ["score", new_users, "-w", finished[0], "--json", "--top-k", 5]
    plain = recmeta(*arguments)
    denied = sorted(listed(plain))[:2]
    for name, data in {
        "notepad.txt": codecs.BOM_UTF8 + "\r\n".join(denied).encode(),
        "unicode.txt": "\r\n".join([*denied, ""]).encode("utf-16"),
        "remarks.txt": f"# withdrawn\n {denied[0]}  # recalled\n\n{denied[1]}\t#\n".encode(),
        "commas.txt": ", ".join(denied).encode(),
        "list.json": json.dumps(denied).encode(),
        "excel.csv": codecs.BOM_UTF8 + f"no;item_id\r\n1;{denied[0]}\r\n2;{denied[1]}".encode(),
    }.items():
        (tmp_path / name).write_bytes(data)
        called = recmeta(*arguments, "--deny", tmp_path / name)
        assert not listed(called) & set(denied), name
        assert "unmatched_denied" not in called.json


def test_items_that_the_catalogue_lacks_are_told(
    finished: tuple[Path, Called], recmeta: Call, new_users: Path, tmp_path: Path
) -> None:
    arguments = ["score", new_users, "-w", finished[0], "--json", "--top-k", 3]
    deny, allow = tmp_path / "deny.txt", tmp_path / "allow.txt"
    deny.write_text("i3\nI4\nThing 5\n")
    for called in (recmeta(*arguments, "--deny", deny), recmeta(*arguments, "--deny", deny)):
        assert called.json["unmatched_denied"] == ["I4", "Thing 5"]
        assert "deny: 2 of its items are not in the model's catalogue: I4, Thing 5" in called.stderr
    allow.write_text("Thing 1\nThing 2\n")
    called = recmeta(*arguments, "--allow", allow)
    assert called.code == 2
    assert "catalogue has none of them" in called.json["error"]
    assert "such as Thing 1, Thing 2" in called.json["error"]
