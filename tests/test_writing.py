"""Who may write to a workspace: the lock, the lease, and what dead owners leave."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from object_store import BUCKET, object_store

from recmeta.errors import UserError, WorkspaceBusyError
from recmeta.workspace import Workspace, lease, lock, writes
from recmeta.workspace.owner import Owner

HOLD = """
import sys, time
from recmeta.workspace import Workspace
workspace = Workspace(sys.argv[1])
with {block}, workspace.temporary_folder() as folder:
    open(folder + "/of-a-person", "w").write("u1")
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with object_store() as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", address)
        patch.setenv("AWS_ALLOW_HTTP", "true")
        yield address


@pytest.fixture(params=["local", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "ws")
    request.getfixturevalue("server")
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture
def hold() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Have another process hold a block of a workspace."""
    processes = []

    def start(location: str, block: str = "workspace.writing()") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD.format(block=block), location]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def try_to_write(location: str, **options: bool) -> None:
    with Workspace(location).writing(**options):
        pass


def test_one_writes_at_a_time_and_the_others_are_told_who(
    location: str, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    other = hold(location)
    with pytest.raises(WorkspaceBusyError, match=rf"process {other.pid}, since .*--wait SECONDS"):
        try_to_write(location)
    with pytest.raises(WorkspaceBusyError), Workspace(location).working_on("training"):
        pass


def test_the_thread_that_writes_may_write_and_another_thread_may_not(location: str) -> None:
    errors: list[Exception] = []

    def other() -> None:
        try:
            try_to_write(location)
        except WorkspaceBusyError as error:
            errors.append(error)

    with Workspace(location).writing():
        try_to_write(location)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(errors) == 1
    try_to_write(location)


def test_a_lock_is_waited_for_as_long_as_asked_and_that_is_said(
    location: str, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    other = hold(location)
    said: list[str] = []
    timer = threading.Timer(1.5, other.terminate if "://" not in location else lambda: None)
    timer.start()
    if "://" in location:  # nobody knows that it is dead: see the next tests
        with (
            pytest.raises(WorkspaceBusyError),
            Workspace(location, wait=1, say=said.append).writing(),
        ):
            pass
    else:
        with Workspace(location, wait=60, say=said.append).writing():
            pass
    timer.join()
    assert len(said) == 1
    assert "Waiting for at most" in said[0]


def test_a_dead_owners_lock_is_free_at_once_and_what_it_left_is_swept(
    tmp_path: Path, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    location = tmp_path / "ws"
    other = hold(str(location))
    left = list(location.glob(".tmp/*/*/of-a-person"))
    assert len(left) == 1
    with Workspace(location).temporary_folder():  # another command does not take from a living one
        assert left[0].exists()
    other.kill()
    other.wait()
    assert left[0].exists()
    try_to_write(str(location))
    assert not list(location.glob(f".tmp/*-{other.pid}-*"))


def test_a_lock_that_is_given_back_is_closed_and_named_no_more(tmp_path: Path) -> None:
    """Else a child would close what has its number by then, and a server would run out of them."""
    before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    others = set(lock._OPEN)  # such as that of this process's temporary files
    path = tmp_path / "locks" / "name"
    taken = lock.try_lock(path, Owner.here())
    assert taken is not None
    assert lock.owner_of(path) == Owner.here()
    assert lock.is_held(path)
    assert lock.try_lock(path, Owner.here()) is None
    assert [name for name, _ in lock.held_in(tmp_path / "locks", "na")] == ["name"]
    assert list(lock.held_in(tmp_path / "locks", "no")) == []
    assert len(lock._OPEN - others) == 1
    taken.release()
    taken.release()
    assert others == lock._OPEN
    assert not lock.is_held(path)
    assert lock.owner_of(path) is None
    assert not (tmp_path / "locks").exists()
    after = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    assert after == before


def test_files_of_locks_that_nobody_holds_are_deleted(tmp_path: Path) -> None:
    (tmp_path / "work-1").write_bytes(Owner.here().to_bytes())
    (tmp_path / "work-2").write_bytes(b"broken")
    taken = lock.try_lock(tmp_path / "work-2", Owner.here())
    assert taken is not None
    assert [name for name, _ in lock.held_in(tmp_path, "work-")] == ["work-2"]
    assert [path.name for path in tmp_path.iterdir()] == ["work-2"]
    taken.release()


def test_a_child_that_outlives_its_parent_holds_no_lock(tmp_path: Path) -> None:
    script = (
        "import os, sys, time\nfrom recmeta.workspace import Workspace\n"
        "with Workspace(sys.argv[1]).writing():\n"
        "    child = os.fork()\n"
        "    if not child:\n        time.sleep(600)\n"
        "    print(child, flush=True)\n    os._exit(0)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "ws")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        process.wait(timeout=60)
        os.kill(child, 0)
        try_to_write(str(tmp_path / "ws"))
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


def test_long_work_goes_on_beside_a_writer_but_not_beside_one_that_must_be_alone(
    location: str, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    hold(location, "workspace.working_on('meta-train-1')")
    try_to_write(location)
    with Workspace(location).working_on("meta-train-2"):
        pass
    with pytest.raises(WorkspaceBusyError), Workspace(location).working_on("meta-train-1"):
        pass
    with pytest.raises(WorkspaceBusyError, match="cannot be written to, because of"):
        try_to_write(location, alone=True)
    try_to_write(location)  # who was refused holds nothing


def test_who_works_may_be_alone(location: str) -> None:
    workspace = Workspace(location)
    with workspace.working_on("a"), workspace.writing(alone=True):
        pass


def test_a_refused_command_makes_no_workspace(tmp_path: Path) -> None:
    @writes
    def refuse(workspace: Workspace) -> None:
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        refuse(Workspace(tmp_path / "a" / "ws"))
    assert not (tmp_path / "a").exists()


def test_a_lease_that_is_not_renewed_is_taken_over_and_its_owner_finds_out(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "MAX_CLOCK_SKEW", 0.0)
    store = lease.store_of(f"s3://{BUCKET}/{tmp_path.name}")
    name, owner = ".locks/writer", Owner.here()
    first = lease.try_lease(store, name, owner, seconds=1.0)
    assert first is not None
    time.sleep(2.0)  # it is renewed four times a second
    assert lease.try_lease(store, name, owner) is None
    assert lease.holder(store, name) == owner
    first._ended.set()  # its process hangs
    first._thread.join()
    time.sleep(1.2)
    second = lease.try_lease(store, name, owner)
    assert second is not None
    first._put(1.0)  # and goes on
    with pytest.raises(UserError, match=r"lease .* was lost"):
        first.check()
    second.check()
    second.release()
    assert lease.holder(store, name) is None
    third = lease.try_lease(store, name, owner)
    assert third is not None
    third.release()
