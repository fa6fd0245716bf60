"""Locks by name on a local disk: one owner at a time, whose name others can read."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recmeta.errors import UserError
from recmeta.workspace import lock
from recmeta.workspace.owner import Owner
from recmeta.workspace.privacy import make_private
from recmeta.workspace.writing import FileLocks

OTHER = Owner(id="b-7-0", command="recmeta ingest", pid=7, host="b", since="2026-01-01T00:00:00")


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    """Else a child would close what has its number by then, and a server would run out of them."""
    before, held = _files(), set(lock._OPEN)  # such as that of this process's temporary files
    yield
    assert _files() == before
    assert held == lock._OPEN


def _files() -> set[str]:
    return set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()


def _umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def take(path: Path) -> lock.FileLock:
    """Return a lock that nobody holds."""
    taken = lock.try_lock(path, OTHER)
    assert taken is not None
    return taken


def failing(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernel refuse locks with an error."""

    def flock(*arguments: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.fcntl, "flock", flock)


def test_a_lock_is_held_until_it_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "of" / "locks" / "name"
    assert not lock.is_held(path)
    taken = take(path)
    assert lock.owner_of(path) == OTHER
    assert lock.is_held(path)
    assert lock.try_lock(path, Owner.here()) is None
    assert lock.owner_of(path) == OTHER
    assert list(lock.held_in(path.parent, "na")) == [("name", OTHER)]
    assert list(lock.held_in(path.parent, "no")) == []
    taken.release()
    assert not (tmp_path / "of").exists()
    others = take(path)
    taken.release()  # a second call does nothing, and not to the next one's lock, either
    assert lock.is_held(path)
    others.release()
    assert not lock.is_held(path)
    assert lock.owner_of(path) is None


def test_folders_stay_where_something_was_written_or_was_before(tmp_path: Path) -> None:
    before, path = tmp_path / "before", tmp_path / "before" / "ws" / "locks" / "name"
    before.mkdir()
    taken = take(path)
    (before / "ws" / "table").write_bytes(b"")
    taken.release()
    assert [p.name for p in (before / "ws").iterdir()] == ["table"]
    (before / "ws" / "table").unlink()
    (before / "ws").rmdir()
    take(path).release()
    assert list(before.iterdir()) == []


def test_two_may_make_the_folder_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ws" / ".locks" / "name"

    def another(folder: Path) -> None:
        make_private(folder)
        path.parent.mkdir()

    monkeypatch.setattr(lock, "make_private", another)
    take(path).release()
    assert not path.parent.exists()


def test_files_of_locks_that_nobody_holds_are_deleted(tmp_path: Path) -> None:
    (tmp_path / "work-1").write_bytes(Owner.here().to_bytes())
    (tmp_path / "work-2").write_bytes(b"broken")
    (tmp_path / "writer").write_bytes(b"")
    assert not lock.is_held(tmp_path / "writer")
    taken = take(tmp_path / "work-2")
    third = take(tmp_path / "work-3")
    assert list(lock.held_in(tmp_path, "work-")) == [("work-2", OTHER), ("work-3", OTHER)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["work-2", "work-3", "writer"]
    taken.release()
    third.release()
    assert list(lock.held_in(tmp_path / "nothing", "work-")) == []


def test_a_locks_file_names_its_owner_whatever_was_in_it(tmp_path: Path) -> None:
    path = tmp_path / "name"
    path.write_bytes(b"x" * 10_000)
    taken = take(path)
    assert path.read_bytes() == OTHER.to_bytes()
    new = take(tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o666 & ~_umask()
    new.release()
    assert not os.get_inheritable(next(iter({taken._descriptor} - {None})))
    taken.release()


@pytest.mark.parametrize("content", [b"", b"7", b"[]", b"{}", b"\xff", b"[" * 3000])
def test_a_file_that_names_no_owner_is_nobodys(content: bytes) -> None:
    assert Owner.read(content) is None


def test_a_file_that_was_deleted_meanwhile_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner gives it back between our opening and our locking it."""
    path, flock = tmp_path / "name", lock.fcntl.flock
    first = take(path)
    calls: list[int] = []

    def slow(descriptor: int, operation: int) -> None:
        if not calls:
            first.release()
        calls.append(descriptor)
        flock(descriptor, operation)

    monkeypatch.setattr(lock.fcntl, "flock", slow)
    second = take(path)
    assert len(calls) == 2
    assert path.exists()
    assert lock.is_held(path)
    second.release()


@pytest.mark.parametrize("number", lock.UNSUPPORTED)
def test_a_file_system_without_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    failing(number, monkeypatch)
    path = tmp_path / "name"
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        lock.try_lock(path, OTHER)
    assert caught.value.errno == number
    with pytest.raises(OSError, match=os.strerror(number)):
        lock.is_held(path)
    with pytest.raises(UserError, match=rf"{tmp_path} has no locks .*mount it with locks\."):
        FileLocks(tmp_path).take("name")


@pytest.mark.parametrize("number", [errno.EWOULDBLOCK, errno.EACCES])
def test_a_kernel_says_in_two_ways_that_a_lock_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    failing(number, monkeypatch)
    assert lock.try_lock(tmp_path / "name", OTHER) is None
    assert lock.is_held(tmp_path / "name")


def test_another_error_is_the_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(errno.EIO, monkeypatch)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        FileLocks(tmp_path).take("name")


def test_a_system_without_flock_has_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "name"
    path.write_bytes(OTHER.to_bytes())
    monkeypatch.setattr(lock, "fcntl", None)
    for asked in (lambda: lock.try_lock(path, OTHER), lambda: lock.is_held(path)):
        with pytest.raises(OSError, match="no flock") as caught:
            asked()
        assert caught.value.errno == errno.ENOSYS
    assert list(lock.held_in(tmp_path, "na")) == []


def test_a_full_disk_takes_the_lock_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    taken = take(tmp_path / "name")
    assert lock.is_held(tmp_path / "name")
    assert lock.owner_of(tmp_path / "name") is None
    taken.release()
