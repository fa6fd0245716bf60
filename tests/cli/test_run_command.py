"""`recmeta run` and the single steps on a real workspace."""

import dataclasses
import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from cli_calls import COLUMNS, LOG_OPTIONS, VALUES, Call, Called, run_arguments

from recmeta import schema
from recmeta.metalearn.algorithms.optimisation_based.anil import ANILConfig
from recmeta.metalearn.registry import LEARNERS
from recmeta.recipes import RECIPES
from recmeta.recipes.configuration import pipeline_config
from recmeta.training.recipes import training_of


@pytest.fixture
def workspace(finished: tuple[Path, Called], tmp_path: Path) -> Path:
    """A copy of the finished workspace, to be changed; its MLflow store stays the original's."""
    return Path(shutil.copytree(finished[0], tmp_path / "ws"))


def test_run_prints_the_promised_object(finished: tuple[Path, Called]) -> None:
    workspace, called = finished
    assert called.code == 0, called.stderr
    summary = called.json
    assert {"mae", "rmse", "ndcg@5"} <= set(summary["metrics"]["bayesian-linear"])
    assert set(summary["metrics"]["maml"]) >= {"mae", "full_ndcg@10"}
    assert {"global-mean", "item-mean", "popularity"} <= set(summary["metrics"])
    assert summary["gate"]["promoted"] is True
    assert summary["gate"]["decision"] == "forced"
    assert summary["gate"]["reasons"]
    assert summary["model_version"] == "1"
    lists = pl.read_delta(summary["recommendations"])
    lists = lists.filter(pl.col(schema.RUN) == summary["recommendations_run"])
    assert lists[schema.USER_ID].n_unique() == summary["tasks"]["tasks_test"]
    assert (workspace / summary["report"] / "adaptation_curve.png").stat().st_size > 10_000


def test_a_second_run_does_nothing_again(
    finished: tuple[Path, Called], folder: Path, recmeta: Call
) -> None:
    workspace, first = finished
    again = recmeta(*run_arguments(folder, workspace), "--force")
    assert again.code == 0
    assert all(again.json["reused"].values())
    for name in ("metrics", "gate", "recommendations_run", "model_version"):
        assert again.json[name] == first.json[name]


def test_a_refusal_is_exit_code_3_and_the_lists_are_there(
    folder: Path, tmp_path: Path, recmeta: Call
) -> None:
    called = recmeta(*run_arguments(folder, tmp_path / "ws"))
    assert called.code == 3
    assert called.json["gate"]["promoted"] is False
    assert "did not promote version 1" in " ".join(called.stderr.split())
    assert pl.read_delta(called.json["recommendations"]).height > 0
    scored = recmeta("score", folder / "events.csv", *COLUMNS, *VALUES, "-w", tmp_path / "ws")
    assert scored.code == 2
    assert "no champion" in " ".join(scored.stderr.split())
    registered = recmeta("register", "-w", tmp_path / "ws", "--json")
    assert registered.code == 3
    assert registered.json["decision"] == "refused"
    forced = recmeta("register", "--force", "-w", tmp_path / "ws", "--json")
    assert (forced.code, forced.json["aliases"]) == (0, ["champion"])


def test_the_report_names_what_there_is(finished: tuple[Path, Called], recmeta: Call) -> None:
    workspace, _ = finished
    report = recmeta("report", "-w", workspace).stdout
    for part in ("rows read", "cold test tasks", "global-mean", "0 shots", "Gate", "Thing"):
        assert part in report
    found = recmeta("report", "-w", workspace, "--json").json
    assert found["report"].strip() == report.strip()


def test_single_steps_give_what_run_gives(
    folder: Path, finished: tuple[Path, Called], tmp_path: Path, recmeta: Call
) -> None:
    _, whole = finished
    where = ["-w", tmp_path / "ws", "--json"]
    config = ["--config", folder / "fast.toml"]
    files = ["--users", folder / "users.csv", "--items", folder / "items.csv"]
    early = recmeta("meta-train", *config, *where)
    assert early.code == 2
    assert "build-tasks has not finished" in " ".join(early.stderr.split())
    assert recmeta("ingest", folder / "events.csv", *LOG_OPTIONS, *files, *where).code == 0
    assert recmeta("build-tasks", *config, *where).json["tasks_test"] == 12
    assert recmeta("meta-train", *config, *where).json["epochs"] == 3
    evaluated = recmeta("evaluate", *config, *where)
    found, other = evaluated.json["metrics"], whole.json["metrics"]
    assert found["maml"] == other["maml"]
    assert set(other) - set(found) == {"bayesian-linear"}
    assert recmeta("register", *where).code == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[train.training]\nepoch = 3\n", "'train.training.epoch'. Did you mean 'epochs'?"),
        ("[trane]\n", "Did you mean 'train'?"),
        ("[train.training]\nepochs = -1\n", "train.training: epochs is -1"),
        ("[train.training]\nepochs = 'many'\n", "train.training.epochs is 'many'"),
        ("[tasks.split]\ntest_share = 2.0\n", "tasks.split: test_share is 2.0"),
        ("[score]\ntop_k = 0\n", "score: top_k is 0"),
        ("not toml", "is not valid TOML"),
    ],
)
def test_a_wrong_configuration_is_explained(
    folder: Path, tmp_path: Path, recmeta: Call, content: str, said: str
) -> None:
    (tmp_path / "wrong.toml").write_text(content)
    arguments = run_arguments(folder, tmp_path / "ws")
    called = recmeta(*arguments, "--config", tmp_path / "wrong.toml")
    assert called.code == 2
    assert said in called.json["error"]
    assert not (tmp_path / "ws").exists(), "nothing was begun"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--recipe", "defalt"], "Did you mean 'default'?"),
        (["--learner", "fomalm"], "Did you mean 'fomaml'?"),
        (["--epochs", "-1"], "epochs is -1"),
        (["--epochs", "two"], "parse string as an integer"),
        (["--device", "tpu"], "device is 'tpu'"),
        (["--profiles", "p.csv"], "--new-users"),
        (["--redo", "meta-trian"], "Did you mean 'meta-train'?"),
    ],
)
def test_wrong_options_are_explained(
    folder: Path, tmp_path: Path, recmeta: Call, arguments: list[str], said: str
) -> None:
    called = recmeta(*run_arguments(folder, tmp_path / "ws"), *arguments)
    assert called.code == 2
    assert said in " ".join(called.stderr.split())


def test_every_recipe_survives_the_way_through_a_file() -> None:
    for name, recipe in RECIPES.items():
        assert pipeline_config(name) == recipe()


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_survives_the_way_through_a_file(name: str, tmp_path: Path) -> None:
    found = pipeline_config(learner=name)
    default = RECIPES["default"]()
    train, implicit = training_of(name), training_of(name, "implicit")
    own = None if implicit == train else implicit
    assert found == dataclasses.replace(default, train=train, implicit=own)
    (tmp_path / "named.toml").write_text(f'[train.model]\nalgorithm = "{name}"\n')
    assert pipeline_config(path=tmp_path / "named.toml") == found


def test_a_learner_takes_the_features_of_the_recipe_and_the_values_of_the_file(
    tmp_path: Path,
) -> None:
    (tmp_path / "steps.toml").write_text("[train.model.learner]\nnum_steps = 7\n")
    config = pipeline_config("melu-paper", learner="anil", path=tmp_path / "steps.toml")
    melu = RECIPES["melu-paper"]()
    assert config.tasks == melu.tasks
    assert config.train.model.features == melu.train.model.features
    tuned = training_of("anil").model.learner
    assert isinstance(tuned, ANILConfig)
    assert config.train.model.learner == dataclasses.replace(tuned, num_steps=7)
    assert config.train.training == training_of("anil").training
    assert pipeline_config("melu-paper", learner="maml").train == melu.train
    added = (melu.train.members, melu.train.choices.epochs, melu.train.lists, melu.train.levels)
    assert added == ((), 0, "popularity", "none"), "MeLU stays as it was published"


def test_rollback_needs_a_previous_champion(workspace: Path, recmeta: Call) -> None:
    called = recmeta("rollback", "-w", workspace, "--json")
    assert called.code == 2
    assert "no previous one to go back to" in called.json["error"]


def test_rollback_swaps_and_swaps_back(folder: Path, workspace: Path, recmeta: Call) -> None:
    second = recmeta(*run_arguments(folder, workspace), "--seed", 1, "--force")
    assert second.json["model_version"] == "2"
    back = recmeta("rollback", "-w", workspace, "--json")
    assert (back.code, back.json) == (0, {"champion": "1", "previous": "2"})
    assert recmeta("rollback", "-w", workspace, "--json").json["champion"] == "2"


def test_the_default_recipe_runs_on_clicks(folder: Path, tmp_path: Path, recmeta: Call) -> None:
    rows = [line.rsplit(",", 1)[0] for line in (folder / "events.csv").read_text().splitlines()]
    (tmp_path / "clicks.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "fast.toml").write_text("[evaluate.evaluation]\nnum_resamples = 100\n")
    workspace = tmp_path / "ws"
    options = (*COLUMNS, "--config", tmp_path / "fast.toml", "-w", workspace)
    called = recmeta("run", "--dataset", tmp_path / "clicks.csv", *options, "--force", "--json")
    assert called.code == 0, called.stderr
    assert {"maml", "weighted-ridge", "ials"} <= set(called.json["metrics"])
    found = list((workspace / "manifests/meta-train").glob("*.json"))
    losses = {
        about["outputs"]["dev_loss"]
        for about in (json.loads(path.read_text()) for path in found)
        if "outputs" in about
    }
    assert losses
    assert all(0 <= loss <= 1 for loss in losses)  # 1 - nDCG@10 of development users
