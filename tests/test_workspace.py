"""Files come back whole or not at all, here and in an object store."""

import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from recmeta import schema
from recmeta.errors import UserError
from recmeta.workspace import Folder, Workspace, check_delta_path


class Remote(pafs.SubTreeFileSystem):
    """A file system that is not the local one, as an object store is not."""


@pytest.fixture(params=["local", "remote"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return Folder.at(tmp_path)
    return Folder(Remote(str(tmp_path), pafs.LocalFileSystem()), "bucket/root")


def test_bytes_and_json_come_back(folder: Folder) -> None:
    folder.write_bytes("a.bin", b"\x00\x01")
    assert folder.read_bytes("a.bin") == b"\x00\x01"
    value = {"b": [1, None, "ü"], "a": 1.5}
    (folder / "deep" / "er").write_json("x.json", value)
    assert (folder / "deep" / "er").read_json("x.json") == value
    assert folder.exists("deep/er/x.json")
    assert folder.exists("deep")
    assert not folder.exists("deep/er/y.json")
    assert folder.names() == ["a.bin", "deep"]
    assert (folder / "nowhere").names() == []


def test_a_table_comes_back(folder: Folder) -> None:
    table = pa.table({"user_id": ["ann", None], "seen": [["a"], []]})
    folder.write_parquet("tables/x.parquet", table)
    assert folder.read_parquet("tables/x.parquet").equals(table)


def test_no_name_leads_out_of_a_folder(folder: Folder, tmp_path: Path) -> None:
    root = folder / "workspace"
    root.write_bytes("in", b"1")
    folder.write_bytes("secret/key", b"2")
    for name in ("..", "../secret/key", "a/../../secret/key", "tasks/../../secret"):
        for use in (
            root.exists,
            root.read_bytes,
            root.read_json,
            root.delete,
            root.delete_folder,
            root.__truediv__,
            lambda name: root.write_bytes(name, b"3"),
        ):
            with pytest.raises(UserError, match=r"leads out of|is all of"):
                use(name)
    for name in ("", ".", "/", "./.", "//"):
        with pytest.raises(UserError, match=r"is all of|leads out"):
            root.delete_folder(name)
    assert folder.read_bytes("secret/key") == b"2"
    assert root.read_bytes("in") == b"1"
    (root / "old").write_bytes("x", b"")
    root.delete_folder("old")
    root.delete_folder("old")
    assert root.names() == ["in"]
    assert (root / "..dots").path.endswith("/..dots")
    if folder.is_local:
        assert root.local_path("/etc/passwd") == f"{root.path}//etc/passwd"


def test_a_file_that_is_not_there_says_so(folder: Folder) -> None:
    with pytest.raises(FileNotFoundError):
        folder.read_bytes("nothing")


def test_writing_replaces_and_leaves_nothing_behind(folder: Folder, tmp_path: Path) -> None:
    for content in (b"a long first version", b"short"):
        folder.write_bytes("x", content)
        assert folder.read_bytes("x") == content
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["x"]


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()  # a file cannot take the place of a folder
    with pytest.raises(OSError, match="x"):
        Folder.at(tmp_path).write_bytes("x", b"content")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_json_refuses_what_json_cannot_say(folder: Folder) -> None:
    with pytest.raises(ValueError, match="JSON"):
        folder.write_json("x.json", float("nan"))
    assert not folder.exists("x.json")


def test_readers_never_see_a_part(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    versions = [bytes([n]) * 200_000 for n in range(8)]
    folder.write_bytes("x", versions[0])
    seen = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(folder.read_bytes("x"))

    reader = threading.Thread(target=read)
    reader.start()
    for content in versions:
        folder.write_bytes("x", content)
    done.set()
    reader.join()
    assert seen <= set(versions)


def test_only_local_folders_have_local_paths(tmp_path: Path) -> None:
    assert Folder.at(tmp_path).local_path("x") == str(tmp_path / "x")
    assert Folder.at(tmp_path).local_path() == str(tmp_path)
    remote = Folder(Remote(str(tmp_path), pafs.LocalFileSystem()), "bucket")
    with pytest.raises(UserError, match="bucket is in an object store"):
        remote.local_path()


def test_locations_resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Workspace("ws").location == str(tmp_path / "ws")
    assert Workspace("~/ws").location == str(tmp_path / "ws")
    assert Workspace(tmp_path).table_uri(schema.ITEMS) == f"{tmp_path}/tables/items"


def test_unknown_schemes_are_the_users_mistake() -> None:
    with pytest.raises(UserError, match="cannot open the location 'ftp://x/y'"):
        Workspace("ftp://x/y")


def test_an_object_store_keeps_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    workspace = Workspace("s3://bucket/some/where/?region=eu-west-1")
    assert workspace.path == "bucket/some/where"
    assert workspace.table_uri(schema.USERS) == "s3://bucket/some/where/tables/users"


@pytest.mark.parametrize("name", ["two words", "año", "50%", "a[b]"])
def test_a_path_that_delta_tables_cannot_be_read_from_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"the workspace is .*plain letters"):
        check_delta_path(str(tmp_path / name), "the workspace")
