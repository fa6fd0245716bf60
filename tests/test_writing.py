"""Who may write to a workspace: the lock, the lease, and what dead owners leave."""

import os
import re
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
from recmeta.workspace import Workspace, lease, lock, works, writes, writes_alone, writing
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


def in_a_thread(work: Callable[[], object]) -> list[Exception]:
    """Return what another thread raised, if anything."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised


def test_one_writes_at_a_time_and_the_others_are_told_who(
    location: str, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    other = hold(location)
    with pytest.raises(WorkspaceBusyError, match=rf"process {other.pid}, since .*--wait SECONDS"):
        try_to_write(location)
    with pytest.raises(WorkspaceBusyError), Workspace(location).working_on("training"):
        pass


def test_the_thread_that_writes_may_write_and_another_thread_may_not(location: str) -> None:
    with Workspace(location).writing():
        try_to_write(location)
        (error,) = in_a_thread(lambda: try_to_write(location))
        assert isinstance(error, WorkspaceBusyError)
    assert not in_a_thread(lambda: try_to_write(location))


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


def test_a_child_that_outlives_its_parent_holds_no_lock(tmp_path: Path) -> None:
    script = (
        "import os, sys, time\nfrom recmeta.workspace import Workspace, lock\n"
        "with Workspace(sys.argv[1]).writing():\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        os.write(1, b'%d\\n' % len(lock._OPEN))\n"  # what it holds no more it never closes
        "        time.sleep(600)\n"
        "    os.write(1, b'%d\\n' % child)\n    os._exit(0)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "ws")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    num_open, child = sorted(int(process.stdout.readline()) for _ in range(2))
    try:
        assert num_open == 0
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
    busy = rf"{re.escape(location)} cannot be written to, because of `"
    with pytest.raises(WorkspaceBusyError, match=busy):
        try_to_write(location, alone=True)
    try_to_write(location)  # who was refused holds nothing


def test_functions_hold_the_lock_of_the_workspace_they_are_given(tmp_path: Path) -> None:
    asked = []

    def look(number: int, workspace: Workspace) -> int:
        another = Workspace(workspace.location)
        asked.append(
            [
                not in_a_thread(lambda: try_to_write(another.location)),
                not in_a_thread(lambda: try_to_write(another.location, alone=True)),
                not in_a_thread(lambda: another.working_on("more").__enter__()),
            ]
        )
        return number

    workspace = Workspace(tmp_path / "ws")
    with workspace.working_on("training"):
        assert (tmp_path / "ws" / ".locks" / "work-training").exists()
    assert writes(look)(1, workspace) == 1
    assert works(look)(number=2, workspace=workspace) == 2
    assert writes_alone(look)(3, workspace=workspace) == 3
    assert look(4, workspace) == 4
    assert asked == [[False, False, False], [True, False, True], [False] * 3, [True] * 3]


def lock_of(folder: Path) -> Path:
    return folder / "ws" / ".locks" / "writer"


@pytest.mark.parametrize(("wait", "is_said"), [(0.0, False), (0.2, False), (2.0, True)])
def test_who_waits_gives_up_in_time_and_says_once_what_it_waits_for(
    tmp_path: Path, wait: float, is_said: bool
) -> None:
    location = str(tmp_path / "ws")
    said: list[str] = []

    def write() -> None:
        with Workspace(location, wait=wait, say=said.append).writing():
            pass

    with Workspace(location).writing():
        began = time.monotonic()
        (error,) = in_a_thread(write)
        seconds = time.monotonic() - began
        who = f"the workspace {location} is being written to by {lock.owner_of(lock_of(tmp_path))}."
        lock_of(tmp_path).write_bytes(b"broken")
        (other,) = in_a_thread(lambda: try_to_write(location))
    assert isinstance(error, WorkspaceBusyError)
    assert (
        str(error) == f"{who} Wait for it with --wait SECONDS, or run this again when it has ended."
    )
    assert said == [f"{who} Waiting for at most {wait:g} s."] * is_said
    assert seconds >= wait
    assert "is being written to by another command." in str(other)


def test_leases_that_nobody_holds_are_deleted(server: str, tmp_path: Path) -> None:
    location = f"s3://{BUCKET}/{tmp_path.name}"
    store, owner = lease.store_of(location), Owner.here()
    held = lease.try_lease(store, ".locks/work-1", owner)
    others = [lease.try_lease(store, f".locks/{name}", owner) for name in ("work-2", "writer")]
    for other in others:
        assert other is not None
        other.release()
    assert held is not None
    assert writing.Leases(location).held("work-") == [("work-1", owner)]
    assert lease.names_of(store, ".locks", "") == ["work-1", "writer"]
    held.release()
    assert writing.Leases(location).owner("work-1") is None


def test_who_lost_a_lease_finds_out_before_a_commit(server: str, tmp_path: Path) -> None:
    location = f"s3://{BUCKET}/{tmp_path.name}"
    workspace = Workspace(location)
    with workspace.writing(), Workspace(f"{location}-2").writing():
        workspace.check_lock()
        lease.delete(lease.store_of(location), ".locks/writer")
        ((_, held),) = (kept for kept in writing._HELD.items() if kept[0][0] == location)
        held.lock._put(60.0)  # type: ignore[attr-defined]
        with pytest.raises(UserError, match=r"the lease \.locks/writer .* was lost"):
            workspace.check_lock()
        assert not in_a_thread(workspace.check_lock)  # which holds nothing
        Workspace(f"{location}-2").check_lock()


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
