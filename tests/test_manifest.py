"""A finished step is not done twice; a killed one leaves no manifest."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from recmeta.errors import Broken, UserError
from recmeta.manifest import (
    Folders,
    Manifest,
    Step,
    as_stored,
    find,
    finished,
    git_commit,
    latest,
    library_versions,
    redoing,
    run_once,
    spread,
    whole,
)
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


def test_all_that_finished_is_told_in_order(step: Working) -> None:
    assert finished(step.workspace, BUILD_TASKS) == []
    keys = [step.run(seed=seed).key for seed in (2, 0, 1)]
    step.run(seed=2)  # done already: it keeps its place
    assert [m.key for m in finished(step.workspace, BUILD_TASKS)] == keys


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


def test_versions_of_a_step_read_each_others_manifests(step: Working) -> None:
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
    assert find(step.workspace, Step("build-tasks", More), key) is None
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
    with pytest.raises(Broken, match="`recmeta seal` \\(or `recmeta run`\\) makes it again"):
        latest(step.workspace, step.STEP)
    assert not step.run().reused
    assert step.run().reused
    assert step.num_done == 2
    assert (folder / "a").read_bytes() == b"first"
    with redoing(["seal"], ["seal"]):
        assert not step.run().reused


def test_what_is_touched_and_the_same_counts(tmp_path: Path) -> None:
    step = Sealing(Workspace(tmp_path))
    key = step.run().key
    (tmp_path / "tasks" / key / "a").write_bytes(b"first")
    assert step.run().reused
    assert step.num_done == 1


def test_a_broken_manifest_counts_for_nothing(tmp_path: Path) -> None:
    step = Sealing(Workspace(tmp_path))
    key = step.run().key
    place = tmp_path / "manifests" / "seal" / f"{key}.json"
    for broken in (
        b"",
        b"[]",
        place.read_bytes()[:-9],
        place.read_bytes().replace(b"seal", b"sEal"),
    ):
        place.write_bytes(broken)
        assert find(step.workspace, step.STEP, key) is None
        assert not step.run().reused
    (place.parent / "latest.json").write_bytes(b"{")
    with pytest.raises(UserError, match="run `recmeta seal`"):
        latest(step.workspace, step.STEP)
    assert step.run().reused
    assert latest(step.workspace, step.STEP).key == key


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
    assert {"python", "torch", "numpy", "pyarrow"} <= set(manifest.libraries)
    assert manifest.libraries == library_versions()
    assert manifest.git_commit == git_commit()
    assert manifest.seconds >= 0
