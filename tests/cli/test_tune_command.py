"""`recmeta tune` on a real workspace, to a file that the other commands take."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_calls import Call, Called

from recmeta.recipes.configuration import pipeline_config


@pytest.fixture
def workspace(
    finished: tuple[Path, Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Path(shutil.copytree(finished[0], tmp_path / "ws"))


def test_two_learners_are_tuned(recmeta: Call, workspace: Path, tmp_path: Path) -> None:
    space, best = tmp_path / "space.toml", tmp_path / "best.toml"
    space.write_text("[train.training]\nlearning_rate = { low = 1e-3, high = 1e-2, log = true }\n")
    arguments = ["tune", "-w", str(workspace), "--learner", "bayesian-linear,snail"]
    arguments += ["--epochs", "2", "--trials", "3", "--space", str(space), "--out", str(best)]
    called = recmeta(*arguments, "--device", "cpu", "--json")
    assert called.code == 0, called.stderr
    found = called.json
    assert set(found["as_it_is"]) == {"bayesian-linear", "snail"}
    assert sum(found["counts"].values()) == 3
    assert pipeline_config(path=best).train.model.algorithm == found["values"]["learner"]

    trained = recmeta("meta-train", "-w", str(workspace), "--config", str(best), "--json")
    assert trained.code == 0, trained.stderr
    assert trained.json["dev_loss"] == pytest.approx(found["dev_loss"])


def test_a_learner_that_there_is_not_is_named(recmeta: Call, workspace: Path) -> None:
    called = recmeta("tune", "-w", str(workspace), "--learner", "maml,snial")
    assert called.code == 2
    assert "snail" in called.stderr


@pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="slow: RECMETA_SLOW=1")
def test_a_killed_search_goes_on(recmeta: Call, workspace: Path, tmp_path: Path) -> None:
    """Killed while its first trial trains, it ends with what it ends with undisturbed."""
    space = tmp_path / "space.toml"
    space.write_text("[train.training]\nlearning_rate = { choices = [1e-3, 3e-3] }\n")
    arguments = ["tune", "-w", str(workspace), "--learner", "bayesian-linear", "--json"]
    arguments += ["--epochs", "40", "--trials", "2", "--space", str(space), "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "recmeta.cli", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list((workspace / "tuning").glob("*/trials/*/checkpoint/digests.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (study,) = (workspace / "tuning").iterdir()
    assert not (study / "best.toml").exists()

    called = recmeta(*arguments)
    assert called.code == 0, called.stderr
    assert called.json["key"] == study.name
    assert sum(called.json["counts"].values()) == 2
    shutil.rmtree(workspace / "tuning")
    undisturbed = recmeta(*arguments).json
    assert called.json["as_it_is"] == undisturbed["as_it_is"]
