"""A finished step is not done twice; a killed one leaves no manifest."""

from pathlib import Path
from typing import Any

import pytest

from recmeta.errors import UserError
from recmeta.manifest import find, finished, git_commit, latest, library_versions, run_once
from recmeta.workspace import Workspace


class Step:
    """Counts how often its work is done."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.done: list[str] = []

    def run(self, seed: int = 0, version: int = 1) -> Any:
        def work(key: str) -> tuple[dict[str, Any], dict[str, int]]:
            self.done.append(key)
            return {"tasks": f"tasks/{key}"}, {"rows": 7}

        return run_once(
            self.workspace,
            "build-tasks",
            config={"seed": seed},
            inputs={"interactions": version},
            work=work,
        )


@pytest.fixture
def step(tmp_path: Path) -> Step:
    return Step(Workspace(tmp_path))


def test_a_finished_step_is_not_done_again(step: Step) -> None:
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


def test_another_configuration_or_input_is_another_step(step: Step) -> None:
    keys = {step.run().key, step.run(seed=1).key, step.run(version=2).key}
    assert len(keys) == len(step.done) == 3
    assert set(step.done) == keys


def test_latest_is_what_was_returned_last(step: Step) -> None:
    first = step.run()
    step.run(seed=1)
    assert latest(step.workspace, "build-tasks").config == {"seed": 1}
    assert step.run().key == first.key
    assert latest(step.workspace, "build-tasks").key == first.key


def test_all_that_finished_is_told_in_order(step: Step) -> None:
    assert finished(step.workspace, "build-tasks") == []
    keys = [step.run(seed=seed).key for seed in (2, 0, 1)]
    step.run(seed=2)  # done already: it keeps its place
    assert [m.key for m in finished(step.workspace, "build-tasks")] == keys


def test_a_step_that_fails_leaves_no_manifest(step: Step) -> None:
    def fail(key: str) -> tuple[dict[str, Any], dict[str, int]]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_once(step.workspace, "build-tasks", config={}, inputs={}, work=fail)
    with pytest.raises(UserError, match="run `recmeta build-tasks`"):
        latest(step.workspace, "build-tasks")
    assert step.workspace.names() == []


def test_what_is_not_there_is_not_found(step: Step) -> None:
    assert find(step.workspace, "build-tasks", "0123456789abcdef") is None
    assert find(step.workspace, "build-tasks", step.run().key) is not None


def test_a_manifest_names_the_libraries_and_the_commit(step: Step) -> None:
    manifest = step.run()
    assert {"python", "torch", "numpy", "pyarrow"} <= set(manifest.libraries)
    assert manifest.libraries == library_versions()
    assert manifest.git_commit == git_commit()
    assert manifest.seconds >= 0
