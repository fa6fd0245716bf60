"""A finished step is not done twice; a killed one leaves no manifest."""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import logging
import platform
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recmeta.config import fingerprint
from recmeta.errors import Broken, UserError, WorkspaceBusyError
from recmeta.manifest import (
    Manifest,
    broken,
    find,
    finished,
    forget,
    latest,
    latest_key,
    losses,
    plain,
    redoing,
    rewriting,
    run_once,
    whole,
)
from recmeta.records.provenance import git_commit, library_versions
from recmeta.records.step_definition import Folders, Step, as_stored, spread
from recmeta.workspace import Workspace, sealing


@dataclasses.dataclass(frozen=True, kw_only=True)
class TasksOutputs:
    """What the step leaves."""

    tasks: str
    shards: tuple[str, ...] = ()
    recall: float | None = None
    also: dict[str, Any] = spread()


BUILD_TASKS = Step("build-tasks", TasksOutputs)


class Working:
    """Counts how often its work is done."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.done: list[str] = []

    def run(self, seed: int = 0, version: int = 1) -> Manifest[TasksOutputs]:
        def work(key: str) -> tuple[TasksOutputs, dict[str, int]]:
            self.done.append(key)
            return TasksOutputs(tasks=f"tasks/{key}"), {"rows": 7}

        return run_once(
            self.workspace,
            BUILD_TASKS,
            config={"seed": seed},
            inputs={"interactions": version},
            work=work,
        )


@pytest.fixture
def step(tmp_path: Path) -> Working:
    return Working(Workspace(tmp_path))


def test_a_finished_step_is_not_done_again(step: Working) -> None:
    first, second = step.run(), step.run()
    assert len(step.done) == 1
    assert not first.reused
    assert second.reused
    assert (first.key, first.outputs, first.counts) == (second.key, second.outputs, second.counts)
    assert first.summary() == {
        "step": "build-tasks",
        "key": first.key,
        "rows": 7,
        "tasks": f"tasks/{first.key}",
    }


def test_another_configuration_or_input_is_another_step(step: Working) -> None:
    keys = {step.run().key, step.run(seed=1).key, step.run(version=2).key}
    assert len(keys) == len(step.done) == 3
    assert set(step.done) == keys


def test_latest_is_what_was_returned_last(step: Working) -> None:
    first = step.run()
    step.run(seed=1)
    assert latest(step.workspace, BUILD_TASKS).config == {"seed": 1}
    assert step.run().key == first.key
    assert latest(step.workspace, BUILD_TASKS).key == first.key


def test_all_that_finished_is_told_in_order(
    step: Working, caplog: pytest.LogCaptureFixture
) -> None:
    assert finished(step.workspace, BUILD_TASKS) == []
    keys = [step.run(seed=seed).key for seed in (2, 0, 1)]
    step.run(seed=2)  # done already: it keeps its place
    with caplog.at_level(logging.WARNING):
        assert [m.key for m in finished(step.workspace, BUILD_TASKS)] == keys
    assert not caplog.messages


def test_a_step_that_fails_leaves_no_manifest(step: Working) -> None:
    def fail(key: str) -> tuple[TasksOutputs, dict[str, int]]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_once(step.workspace, BUILD_TASKS, config={}, inputs={}, work=fail)
    with pytest.raises(UserError, match="run `recmeta build-tasks`"):
        latest(step.workspace, BUILD_TASKS)
    assert step.workspace.names() == []


def test_outputs_are_read_as_they_were_left(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    left = TasksOutputs(tasks="tasks/k", shards=("a", "b"), recall=0.5, also={"epsilon": 2.0})

    def work(key: str) -> tuple[TasksOutputs, dict[str, int]]:
        return left, {}

    done = run_once(workspace, BUILD_TASKS, config={}, inputs={}, work=work)
    assert latest(workspace, BUILD_TASKS).outputs == left
    in_file = {"tasks": "tasks/k", "shards": ["a", "b"], "recall": 0.5, "epsilon": 2.0}
    assert latest(workspace, as_stored("build-tasks")).outputs == in_file
    assert done.summary() == {"step": "build-tasks", "key": done.key, **in_file}


def test_versions_of_a_step_read_each_others_manifests(
    step: Working, caplog: pytest.LogCaptureFixture
) -> None:
    """One that leaves more takes what it knows; one that needs more than is there does it anew."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Fewer:
        recall: float | None = None

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class More(TasksOutputs):
        num_shards: int

    key = step.run().key
    fewer = find(step.workspace, Step("build-tasks", Fewer), key)
    assert fewer is not None
    assert fewer.outputs == Fewer()
    with caplog.at_level(logging.WARNING):
        assert find(step.workspace, Step("build-tasks", More), key) is None
    assert not caplog.messages  # nothing is broken
    assert finished(step.workspace, Step("build-tasks", More)) == []
    assert [m.key for m in finished(step.workspace, as_stored("build-tasks"))] == [key]


class Sealing:
    """Leaves a folder, and counts how often its work is done."""

    STEP = Step("seal", TasksOutputs, leaves=(Folders(lambda outputs: [outputs.tasks]),))

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.num_done = 0

    def run(self) -> Manifest[TasksOutputs]:
        def work(key: str) -> tuple[TasksOutputs, dict[str, int]]:
            self.num_done += 1
            with sealing(self.workspace / "tasks" / key) as folder:
                folder.write_bytes("a", b"first")
                folder.write_bytes("b", b"second")
            return TasksOutputs(tasks=f"tasks/{key}"), {}

        return run_once(self.workspace, self.STEP, config={}, inputs={}, work=work)


@pytest.mark.parametrize("harm", ["missing", "other", "cut", "digests", "all"])
def test_a_manifest_counts_while_what_it_left_is_what_it_was(tmp_path: Path, harm: str) -> None:
    step = Sealing(Workspace(tmp_path))
    key = step.run().key
    assert step.run().reused
    folder = tmp_path / "tasks" / key
    if harm == "missing":
        (folder / "a").unlink()
    elif harm == "other":
        (folder / "a").write_bytes(b"First")
    elif harm == "cut":
        (folder / "b").write_bytes(b"sec")
    elif harm == "digests":
        (folder / "digests.json").write_bytes((folder / "digests.json").read_bytes() + b" ")
    else:
        shutil.rmtree(folder)
    assert whole(step.workspace, step.STEP, key) is None
    with pytest.raises(
        Broken, match="`recmeta seal` \\(or `recmeta run`\\) makes it again"
    ) as told:
        latest(step.workspace, step.STEP)
    if harm == "missing":
        assert f"not whole: {folder}/a is missing. `recmeta" in str(told.value)
    elif harm == "all":
        assert f"not whole: {folder} is missing. `recmeta" in str(told.value)
    assert not step.run().reused
    assert step.run().reused
    assert step.num_done == 2
    assert (folder / "a").read_bytes() == b"first"
    with redoing(["seal"], ["seal"]):
        assert not step.run().reused


class Looked:
    """Something that is whole, and knows how it was looked at."""

    def __init__(self) -> None:
        self.full: list[bool] = []
        self.given: list[Any] = []

    def digests(self, workspace: Workspace, outputs: TasksOutputs) -> dict[str, Any]:
        """Return something that tells the outputs from others."""
        return {outputs.tasks: 1}

    def losses(
        self, workspace: Workspace, outputs: TasksOutputs, digests: Any, *, full: bool
    ) -> list[str]:
        """Return nothing."""
        self.full.append(full)
        self.given.append((outputs, digests))
        return []

    def remove(self, workspace: Workspace, outputs: TasksOutputs) -> None:
        """Delete nothing."""


def test_everything_is_read_where_that_is_asked_for_alone(tmp_path: Path) -> None:
    left = Looked()
    workspace, step = Workspace(tmp_path), Step("look", TasksOutputs, leaves=(left,))
    outputs = TasksOutputs(tasks="t")
    done = run_once(workspace, step, config={}, inputs={}, work=lambda key: (outputs, {}))
    assert run_once(workspace, step, config={}, inputs={}, work=lambda key: (outputs, {})).reused
    assert whole(workspace, step, done.key) is not None
    assert latest(workspace, step).key == done.key
    assert losses(workspace, step, done) == losses(workspace, step, done, full=True) == []
    assert left.full == [False, False, False, False, True]
    assert left.given == [(outputs, {"t": 1})] * 5
    with redoing(["look"], ["look"]):
        again = run_once(workspace, step, config={}, inputs={}, work=lambda key: (outputs, {}))
    assert not again.reused
    assert len(left.full) == 5  # what is done again anyway is not looked at


def test_what_is_touched_and_the_same_counts(tmp_path: Path) -> None:
    step = Sealing(Workspace(tmp_path))
    key = step.run().key
    (tmp_path / "tasks" / key / "a").write_bytes(b"first")
    assert step.run().reused
    assert step.num_done == 1


def test_a_broken_manifest_counts_for_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    step = Sealing(Workspace(tmp_path))
    key = step.run().key
    place = tmp_path / "manifests" / "seal" / f"{key}.json"
    for content in (
        b"",
        b"[]",
        place.read_bytes()[:-9],
        place.read_bytes().replace(b"seal", b"sEal"),
        b'{"outputs": {}, "\\u001b%s": 1}' % (b"x" * 9000),
    ):
        place.write_bytes(content)
        assert find(step.workspace, step.STEP, key) is None
        assert not step.run().reused
    assert f"the manifest {place} is broken, so that it does not count: " in caplog.text
    assert all(record.getMessage().isprintable() for record in caplog.records)
    assert max(len(record.getMessage()) for record in caplog.records) < 1000
    (place.parent / "latest.json").write_bytes(b"{")
    with pytest.raises(UserError, match="run `recmeta seal`"):
        latest(step.workspace, step.STEP)
    assert step.run().reused
    assert latest(step.workspace, step.STEP).key == key


def test_a_whole_manifest_is_found_and_a_broken_one_named(tmp_path: Path) -> None:
    step = Sealing(Workspace(tmp_path))
    done = step.run()
    found = whole(step.workspace, step.STEP, done.key)
    assert found == dataclasses.replace(done, reused=True)
    assert whole(step.workspace, step.STEP, "0123456789abcdef") is None
    assert broken(step.workspace, step.STEP) == []
    place = tmp_path / "manifests" / "seal" / f"{done.key}.json"
    place.write_bytes(b"{")
    (place.parent / "latest.json").write_bytes(b"{")  # which is no manifest
    (place.parent / "notes.txt").write_bytes(b"")
    assert broken(step.workspace, step.STEP) == [f"{place} is not what was written"]


def test_a_manifests_file_is_what_earlier_and_later_versions_read(tmp_path: Path) -> None:
    step = Sealing(Workspace(tmp_path))
    key = step.run().key
    place = tmp_path / "manifests" / "seal" / f"{key}.json"
    stored = json.loads(place.read_bytes())
    assert sorted(stored) == [
        *("config", "counts", "digest", "digests", "finished_at", "git_commit", "inputs"),
        *("key", "libraries", "outputs", "seconds", "step"),
    ]
    assert stored["outputs"] == {"tasks": f"tasks/{key}"}
    assert list(stored["digests"]) == [f"tasks/{key}"]
    assert json.loads((place.parent / "latest.json").read_bytes()) == {"key": key}
    place.write_text(json.dumps({**stored, "counts": {"rows": 8}}))
    assert find(step.workspace, step.STEP, key) is None  # it has been changed since
    del stored["digest"], stored["digests"]  # one of a version without digests
    place.write_text(json.dumps(stored))
    assert step.run().reused
    (tmp_path / "tasks" / key / "a").unlink()
    assert not step.run().reused


def test_what_is_written_anew_on_purpose_counts(tmp_path: Path) -> None:
    step = Sealing(Workspace(tmp_path))
    done = step.run()
    folder = step.workspace / done.outputs.tasks
    with sealing(folder) as place:
        place.write_bytes("a", b"without a user")
    assert len(losses(step.workspace, step.STEP, done)) == 1
    assert done.digests is not None
    others = {**done.digests, "elsewhere": "0"}
    rewriting(step.workspace, step.STEP, done.key, {"elsewhere": "0"})
    kept = find(step.workspace, step.STEP, done.key)
    assert kept is not None
    assert kept.digests == others
    rewriting(
        step.workspace,
        step.STEP,
        done.key,
        Sealing.STEP.leaves[0].digests(step.workspace, done.outputs),
    )
    assert step.run().reused
    rewriting(step.workspace, step.STEP, "0123456789abcdef", {})  # there is none


def test_old_manifests_get_no_digests_by_being_written_anew(step: Working) -> None:
    key = step.run().key
    place = Path(step.workspace.path) / "manifests" / "build-tasks" / f"{key}.json"
    stored = json.loads(place.read_bytes())
    del stored["digest"], stored["digests"]
    place.write_text(json.dumps(stored))
    rewriting(step.workspace, BUILD_TASKS, key, {"tasks": "0"})
    assert json.loads(place.read_bytes()) == stored


def test_a_step_is_taken_back_before_it_is_done_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """So that one which is killed then is not believed; only who asks has it begin from nothing."""
    step = Sealing(Workspace(tmp_path))
    key = step.run().key
    folder = tmp_path / "tasks" / key

    def killed(key: str) -> tuple[TasksOutputs, dict[str, int]]:
        there.append(folder.exists())
        raise KeyboardInterrupt

    def try_again() -> None:
        with pytest.raises(KeyboardInterrupt):
            run_once(step.workspace, step.STEP, config={}, inputs={}, work=killed)
        assert find(step.workspace, step.STEP, key) is None
        assert not (tmp_path / "manifests" / "seal" / "latest.json").exists()

    there: list[bool] = []
    with redoing(["seal"], ["seal", "other"]):
        try_again()
    assert not caplog.records
    assert not step.run().reused
    (folder / "a").unlink()
    (folder / "b").unlink()
    with caplog.at_level(logging.WARNING), redoing(["other"], ["seal", "other"]):
        try_again()
    assert there == [False, True]
    assert caplog.messages == [f"seal is done again: {folder}/a is missing, and 1 more."]


def test_a_manifest_is_taken_back_and_no_other(step: Working) -> None:
    first, second = step.run().key, step.run(seed=1).key
    for _ in range(2):  # the second time there is nothing to take back
        forget(step.workspace, BUILD_TASKS, first)
        assert find(step.workspace, BUILD_TASKS, first) is None
        assert latest(step.workspace, BUILD_TASKS).key == second
    forget(step.workspace, BUILD_TASKS, second)
    assert latest_key(step.workspace, BUILD_TASKS) is None
    assert (step.workspace / "manifests" / "build-tasks").names() == []


@pytest.mark.parametrize("is_long", [False, True])
def test_others_write_beside_long_work_alone(tmp_path: Path, is_long: bool) -> None:
    step = Step("train", TasksOutputs, **({"is_long": True} if is_long else {}))
    at_once: list[str] = []

    def begin(seed: int, work: Callable[[str], tuple[TasksOutputs, dict[str, int]]]) -> None:
        workspace = Workspace(tmp_path)
        with contextlib.suppress(WorkspaceBusyError):
            run_once(workspace, step, config={"seed": seed}, inputs={}, work=work)

    def in_the_middle(key: str) -> tuple[TasksOutputs, dict[str, int]]:
        for seed in (0, 1):  # the same work, and another
            thread = threading.Thread(target=begin, args=(seed, beside))
            thread.start()
            thread.join()
        return TasksOutputs(tasks="first"), {}

    def beside(key: str) -> tuple[TasksOutputs, dict[str, int]]:
        at_once.append(key)
        return TasksOutputs(tasks="beside"), {}

    begin(0, in_the_middle)
    assert at_once == [fingerprint(step, {"seed": 1}, {})] * is_long
    assert [m.outputs.tasks for m in finished(Workspace(tmp_path), step)] == [
        *["beside"] * is_long,
        "first",
    ]


def test_a_step_to_redo_has_a_name_that_is_known() -> None:
    with (
        pytest.raises(
            UserError, match=r"'sael', which is not a step .*'seal'.* There are: seal, other"
        ),
        redoing(["sael"], ["seal", "other"]),
    ):
        pass


def test_outputs_are_plain_json(step: Working) -> None:
    assert plain({"tasks": "t", "unknown": 1}) == {"tasks": "t", "unknown": 1}
    assert plain(TasksOutputs(tasks="t")) == {"tasks": "t"}


@pytest.mark.parametrize("path", ["../victim", "tasks/../../victim", "", "."])
def test_a_manifest_deletes_nothing_outside_its_workspace(tmp_path: Path, path: str) -> None:
    victim, workspace = tmp_path / "victim", Workspace(tmp_path / "ws")
    victim.mkdir()
    workspace.write_bytes("tables/x", b"")
    tasks = Folders(lambda outputs: [outputs.tasks])
    with pytest.raises(UserError, match=r"leads out of|is not deleted"):
        tasks.remove(workspace, TasksOutputs(tasks=path))
    assert victim.is_dir()
    assert workspace.exists("tables/x")


def test_what_is_not_there_is_not_found(step: Working) -> None:
    assert find(step.workspace, BUILD_TASKS, "0123456789abcdef") is None
    assert find(step.workspace, BUILD_TASKS, step.run().key) is not None


def test_a_manifest_names_the_libraries_and_the_commit(step: Working) -> None:
    manifest = step.run()
    installed = {"python": platform.python_version()}
    for name in ("recmeta", "torch", "numpy", "pyarrow", "polars", "deltalake", "mlflow"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    assert manifest.libraries == library_versions() == installed
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    told = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    assert manifest.git_commit == git_commit() == (told or None)
    assert 0 <= manifest.seconds < 600
    finished_at = datetime.datetime.fromisoformat(manifest.finished_at)
    now = datetime.datetime.now(datetime.UTC)
    assert now - datetime.timedelta(minutes=10) < finished_at <= now


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit() is None
