"""Whose files are whose: what recmeta makes is its owner's alone, what was there stays as it is."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from recmeta.endpoint.guard.keys import exposure
from recmeta.errors import UserError
from recmeta.workspace import Workspace, temporary
from recmeta.workspace.privacy import require_own


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write_a_file(place: Path) -> None:
    (Workspace(place) / "deep" / "er").write_json("x.json", 1)


def lock_and_write(place: Path) -> None:
    workspace = Workspace(place)
    with workspace.writing():
        (place / "tables").mkdir()  # as delta-rs does, which knows nothing of us


def take_a_temporary_folder(place: Path) -> None:
    with Workspace(place).temporary_folder():
        pass


WAYS = [write_a_file, lock_and_write, take_a_temporary_folder]


@pytest.fixture(params=[0o022, 0o002, 0o000], ids=["022", "002", "000"])
def umask(request: pytest.FixtureRequest) -> object:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("write", WAYS)
@pytest.mark.usefixtures("umask")
def test_a_workspace_is_made_for_its_owner_alone(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    place = tmp_path / "above" / "ws"
    write(place)
    assert mode(place) == 0o700


@pytest.mark.parametrize("write", WAYS)
def test_a_folder_that_is_there_keeps_its_permissions(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    place = tmp_path / "ws"
    place.mkdir()
    place.chmod(0o2770)
    write(place)
    assert mode(place) == 0o2770


@pytest.mark.parametrize("how", ["writable", "link", "file", "another's"])
def test_temporary_files_go_into_nobody_elses_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    shared = tmp_path / "shared"
    if how == "link":
        (tmp_path / "elsewhere").mkdir()
        shared.symlink_to(tmp_path / "elsewhere")
    elif how == "file":
        shared.touch()
    else:
        shared.mkdir(mode=0o700)
    if how == "writable":
        shared.chmod(0o777)
    elif how == "another's":
        monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    with pytest.raises(UserError, match="not a folder of this user's alone"):
        require_own(shared)


def test_the_machines_folder_is_checked_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "recmeta"
    monkeypatch.setattr(temporary, "of_the_machine", lambda: shared)
    assert temporary.folder_of_mine(shared).parent == shared
    assert mode(shared) == 0o700
    temporary._delete(shared)
    shared.mkdir(mode=0o777, exist_ok=True)
    shared.chmod(0o777)
    with pytest.raises(UserError, match="set TMPDIR"):
        temporary.folder_of_mine(shared)
    assert list(shared.iterdir()) == []


def test_a_file_of_keys_that_others_can_read_is_told(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    file.touch()
    for open_to, told in ((0o644, True), (0o604, True), (0o640, False), (0o600, False)):
        file.chmod(open_to)
        assert (exposure(file) is not None) is told
    file.chmod(0o644)
    assert f"chmod 600 {file}" in str(exposure(file))
    assert exposure(None) is None
