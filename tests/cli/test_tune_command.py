"""`recmeta tune` on a real workspace, to a file that the other commands take."""

import shutil
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
