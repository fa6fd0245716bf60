"""A champion that is broken, or ends or holds up the process that tries it, is not taken over."""

import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Served, serving, until

from recmeta.endpoint.answers.champion import RegistrySource
from recmeta.endpoint.answers.trial import PROCESS
from recmeta.errors import UserError
from recmeta.registry.models import versions
from recmeta.workspace import Workspace

ROWS = (("i03", 5.0), ("i07", 1.0))


def trials() -> list[int]:
    """Return the ids of the processes in which a champion is tried for this one."""
    found = []
    for place in Path("/proc").iterdir():
        try:
            parent = (place / "stat").read_text().rpartition(")")[2].split()[1]
            command = (place / "cmdline").read_bytes().decode()
        except (OSError, IndexError):
            continue
        if parent == str(os.getpid()) and PROCESS in command:
            found.append(int(place.name))
    return found


@pytest.fixture
def another(workspace: Workspace) -> Iterator[str]:
    """The other version, which is champion until the test's end."""
    _, new = versions.rollback(workspace)
    versions.rollback(workspace)
    yield new
    champion = versions.champion(workspace)
    if champion is not None and champion.version == new:
        versions.rollback(workspace)


def refusal(served: Served) -> dict[str, str]:
    """Return what the probe says, once a version was refused."""
    until(lambda: served.client.get("/readyz").json()["refused_version"] is not None, 120)
    answer = served.client.get("/readyz")
    assert answer.status_code == 200
    found: dict[str, str] = answer.json()
    return found


@pytest.mark.parametrize("sent", [signal.SIGSEGV, signal.SIGKILL])
def test_one_that_ends_its_process_is_refused(
    source: RegistrySource, workspace: Workspace, another: str, sent: signal.Signals
) -> None:
    with serving(source) as served:
        versions.rollback(workspace)
        until(lambda: bool(trials()))
        os.kill(trials()[0], sent)
        found = refusal(served)
        assert found["refused_version"] == another
        assert f"by signal {sent.value}" in found["reason"]
        assert served.ask(*ROWS)["model_version"] == found["model_version"] != another
        assert 'recmeta_champion_refused_total{why="crashed"} 1.0' in (
            served.client.get("/metrics").text
        )
        versions.rollback(workspace)
        until(lambda: served.client.get("/readyz").json()["refused_version"] is None)


def test_a_trial_imports_nothing_from_where_the_server_was_started(
    source: RegistrySource,
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trace = tmp_path / "trace"
    for name in ("torch.py", "recmeta.py", "polars.py"):
        (tmp_path / name).write_text(f"open({str(trace)!r}, 'w')\nraise SystemExit(1)\n")
    champion = versions.champion(workspace)
    assert champion is not None
    monkeypatch.chdir(tmp_path)
    source.try_out(champion.version, seconds=200, stopping=threading.Event())
    assert not trace.exists()


def test_one_that_does_not_answer_in_time_is_refused(
    source: RegistrySource, workspace: Workspace, another: str
) -> None:
    with serving(source, trial_seconds=1.0) as served:
        versions.rollback(workspace)
        until(lambda: bool(trials()))
        os.kill(trials()[0], signal.SIGSTOP)
        assert "within 1 seconds" in refusal(served)["reason"]
        assert served.ask(*ROWS)["model_version"] != another
        assert 'recmeta_champion_refused_total{why="slow"} 1.0' in (
            served.client.get("/metrics").text
        )
        assert trials() == []


def test_one_whose_files_are_broken_is_refused_unread(
    source: RegistrySource, workspace: Workspace, another: str
) -> None:
    folder = versions.model_folder(workspace, versions.get(workspace, another))
    path = Path(folder.path) / "encoder.arrow"
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[random.Random(0).randrange(len(content))] ^= 1
    path.write_bytes(flipped)
    try:
        with serving(source) as served:
            versions.rollback(workspace)
            assert refusal(served)["reason"] == f"version {another} could not be read"
            assert served.ask(*ROWS)["model_version"] != another
    finally:
        path.write_bytes(content)


def test_a_trial_does_not_keep_the_server_from_stopping(
    source: RegistrySource, workspace: Workspace, another: str
) -> None:
    with serving(source):
        versions.rollback(workspace)
        until(lambda: bool(trials()))
    assert trials() == []


def test_the_first_one_is_tried_before_anything_is_served(source: RegistrySource) -> None:
    def end_it() -> None:
        until(lambda: bool(trials()), 60)
        os.kill(trials()[0], signal.SIGSEGV)

    ending = threading.Thread(target=end_it)
    ending.start()
    with pytest.raises(UserError, match=r"by signal 11.*recmeta rollback"):
        source.first(seconds=100)
    ending.join()
    assert trials() == []
