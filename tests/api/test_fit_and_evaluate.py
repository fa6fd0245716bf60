"""Fitting in memory is the pipeline's training to the last bit, and evaluating its evaluation."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from api_frames import data, log, model

import recmeta
from recmeta import UserError
from recmeta.metalearn.model import Model
from recmeta.metalearn.outer_loop.trainer import TrainingConfig
from recmeta.steps.learning import meta_train
from recmeta.training.recipes import training_of
from recmeta.workspace import Folder

slow = pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it")
OPTIONS = {"learner": "maml", "seed": 2, "epochs": 2, "progress": False}


@pytest.mark.parametrize(
    ("objective", "learner"),
    [
        ("rating", "maml"),
        ("implicit", None),
        pytest.param("rating", "selector", marks=(slow, pytest.mark.slow)),
    ],
)
def test_it_is_the_pipelines_model_and_metrics(
    objective: str, learner: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    made, ours = log(objective), data("polars", objective)
    options = OPTIONS | {"learner": learner}
    result = recmeta.run(
        made.interactions, items=made.items, users=made.users, rival=False, **options
    )
    workspace = recmeta.open_workspace("workspace")
    trained = workspace.workspace / workspace.manifest(meta_train.STEP).outputs["model"]
    theirs = Model.load(trained)
    fitted = recmeta.fit(ours, **options)
    assert fitted.model.config == theirs.config
    assert fitted.model.digest() == theirs.digest()
    assert fitted.model.uncertainty == theirs.uncertainty
    found = recmeta.evaluate(fitted, ours, progress=False)
    evaluation = found.judgement.evaluation.to_dict()
    for name in (fitted.learner, *found.judgement.baselines):
        assert evaluation["intervals"][name] == result.evaluation["intervals"][name], name
    assert found.gate.beaten_by == tuple(result.decision["beaten_by"])
    # The same from its folder, and by its name in the registry.
    again = recmeta.load(trained.path)
    rows = ours.rows("u003", "u004")
    assert again.recommend(rows).equals(fitted.recommend(rows))
    version = workspace.versions()["version"].iloc[-1]
    named = recmeta.load(f"models:/recmeta/{version}")
    assert named.recommend(rows).equals(fitted.recommend(rows))
    with pytest.raises(UserError, match="recmeta evaluate"):
        recmeta.evaluate(again, ours)
    assert (
        result.metrics[fitted.learner]["full_hit@10"]
        == found.metrics[fitted.learner]["full_hit@10"]
    )


def test_a_frame_that_is_run_again_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    options = {"learner": "bayesian-linear", "epochs": 1, "progress": False}
    for reused in (False, True):
        result = recmeta.run(
            log().interactions.to_pandas(), workspace=tmp_path / "w", rival=False, **options
        )
        assert result.ingested.reused is reused
        assert result.trained.reused is reused


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    fitted = recmeta.fit(data(), learner="bayesian-linear", epochs=1, progress=False)
    recmeta.evaluate(fitted, data(), baselines=[], progress=False)
    assert [p.name for p in tmp_path.rglob("*")] == ["temporary"]


def test_configurations_of_every_kind(tmp_path: Path) -> None:
    brief = TrainingConfig(epochs=1, learning_rate=5e-3, weight_decay=0.0)
    config = dataclasses.replace(training_of("bayesian-linear"), training=brief, seed=4)
    by_object = recmeta.fit(data(), config=config, progress=False)
    values = {
        "train": {
            "model": {"algorithm": "bayesian-linear"},
            "training": {"epochs": 1, "patience": 5},
        }
    }
    by_values = recmeta.fit(data(), config=values, seed=4, progress=False)
    (tmp_path / "c.toml").write_text(
        '[train.model]\nalgorithm = "bayesian-linear"\n[train.training]\nepochs = 1\npatience = 5\n'
    )
    by_file = recmeta.fit(data(), config=tmp_path / "c.toml", seed=4, progress=False)
    assert by_values.model.digest() == by_file.model.digest() == by_object.model.digest()
    by_path = recmeta.fit(
        data(),
        learner="recmeta.metalearn.algorithms.optimisation_based.anil:ANILConfig",
        epochs=1,
        progress=False,
    )
    assert by_path.feedback == "rating"
    with pytest.raises(UserError, match="learner is 'maml', and config sets it"):
        recmeta.fit(data(), learner="maml", config=config)
    with pytest.raises(UserError, match="Did you mean"):
        recmeta.fit(data(), config={"trian": {}})
    with pytest.raises(UserError, match="device is 'tpu'"):
        recmeta.fit(data(), device="tpu")


def test_a_saved_model_knows_its_cold_users(tmp_path: Path) -> None:
    first = recmeta.evaluate(model(), data(), baselines=["popularity"], progress=False)
    model().save(tmp_path / "model")
    again = recmeta.load(tmp_path / "model")
    second = recmeta.evaluate(again, data("pandas"), baselines=["popularity"], progress=False)
    assert second.metrics == first.metrics
    assert repr(second) == repr(first)
    cold = set(first.cold_users()["user_id"])
    task_set = data().task_set(model().origin.tasks)
    assert not cold & {*task_set.tasks("train").user_id, *task_set.tasks("dev").user_id}


def test_it_is_measured_on_nobody_it_has_learned_from() -> None:
    fewer = recmeta.Dataset.from_frame(data().interactions.filter(pl.col("user_id") > "u010"))
    with pytest.raises(UserError, match=r"the model has learned from \d+ of its 149 users"):
        recmeta.evaluate(model(), fewer)
    strangers = data().interactions.with_columns(("new-" + pl.col("user_id")).alias("user_id"))
    others = recmeta.Dataset.from_frame(strangers)
    found = recmeta.evaluate(model(), others, baselines=["item-mean"], progress=False)
    assert all(u.startswith("new-") for u in found.cold_users()["user_id"])
    with pytest.raises(UserError, match=r"no baseline 'item-men'\. Did you mean 'item-mean'"):
        recmeta.evaluate(model(), data(), baselines=["item-men"], progress=False)
    clicks = recmeta.Dataset.from_frame(strangers, feedback="implicit")
    with pytest.raises(UserError, match="of implicit feedback and the model learned from rating"):
        recmeta.evaluate(model(), clicks, progress=False)


def test_progress_is_shown_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    recmeta.fit(data(), learner="bayesian-linear", epochs=1)
    shown = capsys.readouterr()
    assert "meta-train: done" in shown.err
    assert shown.out == ""
    recmeta.fit(data(), learner="bayesian-linear", epochs=1, progress=False)
    assert capsys.readouterr().err == ""


def test_without_cold_users_there_is_nothing_to_measure() -> None:
    none_held_out = {"tasks": {"split": {"test_share": 0.0}}}
    made = data()
    fitted = recmeta.fit(
        made, learner="bayesian-linear", epochs=1, config=none_held_out, progress=False
    )
    with pytest.raises(UserError, match="has no tasks"):
        recmeta.evaluate(fitted, made, progress=False)


def test_users_and_time_are_held_out_together() -> None:
    late = {"tasks": {"split": {"split": "global-time"}}}
    made = data()
    fitted = recmeta.fit(made, learner="bayesian-linear", epochs=1, config=late, progress=False)
    found = recmeta.evaluate(fitted, made, progress=False).judgement
    rows = made.interactions
    first = rows.group_by("user_id").agg(pl.col("timestamp").min()).sort("timestamp")
    num_cold = round(0.2 * len(first))
    assert abs(found.evaluation.to_dict()["num_users"] - num_cold) <= 1
    assert {"bayesian-linear", "popularity"} <= set(found.metrics)
    without = made.interactions.drop("timestamp")
    with pytest.raises(UserError, match="needs a time on every interaction"):
        recmeta.fit(recmeta.Dataset.from_frame(without), config=late, progress=False)


def test_what_is_saved_is_plain(tmp_path: Path) -> None:
    model().save(tmp_path)
    about = json.loads((tmp_path / "origin.json").read_text())
    assert about["data"] == data().fingerprint
    hashes = Folder.at(tmp_path).read_parquet("seen_users.parquet")["hash"].to_numpy()
    assert np.array_equal(hashes, model().seen)
    assert not any("u00" in path.read_text(errors="ignore") for path in [tmp_path / "origin.json"])


SHARED = Path(os.environ.get("RECMETA_SHARED_DATA", "../shared/data")).resolve()


@pytest.mark.skipif(
    not (SHARED / "ml-100k").exists(), reason="no shared data (RECMETA_SHARED_DATA)"
)
def test_movielens_from_frames_as_they_are() -> None:
    """Typed columns, lists and dates of a real data set, with whole numbers as ids."""
    ratings, users, items = (
        pl.read_parquet(SHARED / "ml-100k" / f"{name}.parquet")
        for name in ("interactions", "users", "items")
    )
    made = recmeta.Dataset.from_frame(
        ratings, items=items, users=users, value="rating", scale=(1, 5)
    )
    assert repr(made) == ("Dataset(943 users, 1,682 items, 100,000 interactions, 0 in quarantine)")
    fitted = recmeta.fit(made, learner="bayesian-linear", epochs=1, progress=False)
    rows = ratings.filter(pl.col("user_id") == 42)
    lists = fitted.recommend(rows, top_k=5)
    assert lists.join(rows.cast({"item_id": pl.Int64}), on="item_id").height == 0
    assert lists["title"].is_in(items["title"].implode()).all()
    found = recmeta.evaluate(fitted, made, baselines=["item-mean"], progress=False)
    assert found.metrics["item-mean"]["mae"] == pytest.approx(0.87317, abs=1e-5)
    assert found.metrics["bayesian-linear"]["mae"] < 0.79


@slow
@pytest.mark.slow
def test_two_processes_fit_the_model_of_one() -> None:
    options = OPTIONS | {"learner": "bayesian-linear"}
    one, two = (recmeta.fit(data("polars"), **options, processes=n) for n in (1, 2))
    assert two.model.params.keys() == one.model.params.keys()
    for name, p in one.model.params.items():
        torch.testing.assert_close(two.model.params[name], p, rtol=1e-3, atol=1e-4, msg=name)
