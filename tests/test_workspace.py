"""Files come back whole or not at all, here and in an object store."""

import errno
import os
import tempfile
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from recmeta import schema
from recmeta.errors import UserError
from recmeta.workspace import Folder, MemoryFolder, Workspace, check_delta_path


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
    folder.write_json("deep/er/z.json", {"b": 1, "a": 2})
    assert folder.read_bytes("deep/er/z.json") == b'{\n  "a": 2,\n  "b": 1\n}\n'
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


def test_a_write_that_fails_is_not_tried_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def rename(source: str, target: str) -> None:
        tried.append(target)
        raise OSError(errno.ENOSPC, "the disk is full")

    monkeypatch.setattr(os, "replace", rename)
    with pytest.raises(OSError, match="the disk is full"):
        Workspace(tmp_path).write_bytes("x", b"content")
    assert tried == [f"{tmp_path}/x"]


def test_a_file_has_its_name_only_once_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        place = os.readlink(f"/proc/self/fd/{descriptor}")
        assert os.path.isdir(place) or Path(place).read_bytes() == b"content"
        done.append(("sync", place))
        fsync(descriptor)

    def rename(source: str, target: str) -> None:
        assert Path(source).read_bytes() == b"content"
        done.append(("rename", target))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    before = len(os.listdir("/proc/self/fd"))
    (Folder.at(tmp_path) / "deep").write_bytes("x", b"content")
    assert len(os.listdir("/proc/self/fd")) == before
    folder = f"{tmp_path}/deep"
    (first, unfinished), *others = done
    assert (first, others) == ("sync", [("rename", f"{folder}/x"), ("sync", folder)])
    assert Path(unfinished).parent == Path(folder)
    assert Path(unfinished).name.startswith(".x.")
    done.clear()
    (Workspace(tmp_path / "ws") / "in").write_bytes(
        "y", b"content"
    )  # whose temporary files have a place
    assert Path(done[-3][1]).is_relative_to(tmp_path / "ws" / ".tmp")
    assert done[-2:] == [("rename", f"{tmp_path}/ws/in/y"), ("sync", f"{tmp_path}/ws/in")]


def test_a_folder_on_another_disk_is_written_to(tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one disk")
    with tempfile.TemporaryDirectory(dir=other) as mounted:
        workspace = Workspace(tmp_path / "ws")
        workspace.write_bytes("x", b"1")
        (tmp_path / "ws" / "mounted").symlink_to(mounted)
        (workspace / "mounted").write_bytes("y", b"2")
        assert os.listdir(mounted) == ["y"]
        assert (workspace / "mounted").read_bytes("y") == b"2"
    assert not [p for p in (tmp_path / "ws" / ".tmp").rglob("*") if p.name.startswith(".y")]


def test_files_are_listed_mapped_and_deleted(folder: Folder, tmp_path: Path) -> None:
    for name in ("b", ".hidden", "a"):
        folder.write_bytes(name, name.encode())
    assert folder.names() == ["a", "b"]
    assert folder.read_buffer("a").to_pybytes() == b"a"
    folder.delete("a")
    folder.delete("a")
    assert folder.names() == ["b"]
    folder.write_bytes("x.json", b"{")
    with pytest.raises(UserError, match=r"/x\.json is broken: "):
        folder.read_json("x.json")


def test_a_folder_in_memory_is_as_one_on_a_disk(tmp_path: Path) -> None:
    disk = Folder.at(tmp_path)
    disk.write_bytes("a", b"1")
    disk.write_bytes("deep/b", b"2")
    memory = MemoryFolder.copy_of(disk, ["a", "deep/b", "missing"])
    assert memory.names() == ["a", "deep"]
    assert [memory.exists(name) for name in ("a", "deep", "deep/b", "dee", "missing")] == [
        *(True, True, True, False, False)
    ]
    assert (memory / "deep").read_bytes("b") == b"2"
    (memory / "deep").write_bytes("c", b"3")
    assert memory.read_bytes("deep/c") == b"3"
    memory.delete("a")
    memory.delete("a")
    assert memory.names() == ["deep"]
    with pytest.raises(FileNotFoundError, match="/a"):
        memory.read_bytes("a")


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


@pytest.mark.parametrize("query", ["", "?region=eu-west-1"])
def test_an_object_stores_address_is_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    def address() -> tuple[str, str]:
        _, (options,) = Folder.at(f"s3://bucket/x{query}").filesystem.__reduce__()
        return options["scheme"], options["endpoint_override"]

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:9")
    assert address() == ("http", "localhost:9")
    query = f"{query or '?region=eu-west-1'}&endpoint_override=localhost:8"
    assert address() == ("https", "localhost:8")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    query = "?region=eu-west-1"
    assert address() == ("https", "")


@pytest.mark.parametrize("name", ["two words", "año", "50%", "a[b]"])
def test_a_path_that_delta_tables_cannot_be_read_from_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"the workspace is .*plain letters"):
        check_delta_path(str(tmp_path / name), "the workspace")
