"""The Python API: its examples run, it says what the steps say, and importing it is light."""

import doctest
import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from typer.testing import CliRunner

import recmeta
from recmeta.analysis.open_workspace import OpenWorkspace
from recmeta.cli.app import build
from recmeta.errors import UserError

MODULES = ("open_workspace", "registered_model", "opening")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    module = importlib.import_module(f"recmeta.analysis.{name}")
    failed, tried = doctest.testmod(module, optionflags=FLAGS)
    assert tried > 1
    assert failed == 0


def test_importing_recmeta_is_light() -> None:
    code = (
        "import sys, recmeta\n"
        "heavy = {'torch', 'polars', 'pandas', 'mlflow', 'numpy', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="open_workspce"):
        _ = recmeta.open_workspce


@pytest.fixture(scope="module")
def opened(analysed: Path) -> OpenWorkspace:
    workspace = recmeta.open_workspace(analysed / "workspace")
    assert isinstance(workspace, OpenWorkspace)
    return workspace


def test_tables_and_steps(opened: OpenWorkspace) -> None:
    rows = opened.tables().set_index("table")["rows"]
    assert rows["users"] == 200
    assert isinstance(opened.table("items"), pd.DataFrame)
    assert isinstance(opened.table("items", kind="polars"), pl.DataFrame)
    assert isinstance(opened.table("items", kind="lazy"), pl.LazyFrame)
    assert opened.table("interactions", version=0).empty  # before the first ingest
    steps = opened.steps()["step"].tolist()
    assert steps.index("ingest") < steps.index("evaluate") < steps.index("score")
    counts = opened.manifest("build-tasks").counts
    assert {s: len(opened.tasks(s)) for s in ("train", "dev", "test")} == {
        s: counts[f"tasks_{s}"] for s in ("train", "dev", "test")
    }
    assert opened.tasks("test")["cut_time"].notna().all()


def test_evaluation_and_models(opened: OpenWorkspace) -> None:
    metrics = opened.metrics()
    mae = metrics[(metrics.metric == "mae") & (metrics.predictor == "bayesian-linear")]
    per_user = opened.per_user().query("predictor == 'bayesian-linear'")["mae"]
    assert mae["mean"].iloc[0] == pytest.approx(per_user.mean())
    curve = opened.adaptation_curve()
    assert set(curve.columns) == {"predictor", "shots", "mean", "ci_low", "ci_high", "num_users"}
    lists = opened.list_curve()
    assert set(lists.columns) == set(curve.columns)
    assert {"bayesian-linear", "popularity", "item-knn"} <= set(lists.predictor)
    assert opened.versions()["aliases"].tolist() == ["previous", "champion"]
    runs = opened.runs()
    assert set(runs["params.model.algorithm"]) == {"maml", "bayesian-linear"}
    assert opened.model("1").model.config.algorithm == "maml"
    assert opened.plot_training().png.startswith(b"\x89PNG")
    with pytest.raises(UserError, match="has no version"):
        opened.model("77")


def test_a_prediction_is_an_interval(opened: OpenWorkspace) -> None:
    champion = opened.champion
    ids = champion.items()["item_id"]
    users = champion.adapt(
        pd.DataFrame({"user_id": ["b", "a", "a"], "item_id": ids[[0, 1, 2]], "value": [5.0, 1, 4]})
    )
    assert users.interactions()["user_id"].tolist() == ["a", "a", "b"]
    found = users.predict(ids[:4])
    assert found["user_id"].tolist() == ["a"] * 4 + ["b"] * 4
    assert (found["low"] < found["value"]).all()
    assert (found["value"] < found["high"]).all()
    assert (found["uncertainty"] > 0).all()
    alone = champion.adapt(pd.DataFrame({"user_id": ["b"], "item_id": ids[:1], "value": [5.0]}))
    assert np.allclose(alone.predict(ids[:4])["value"], found["value"][4:])
    lists = users.recommend(top_k=3)
    assert lists.groupby("user_id").size().tolist() == [3, 3]
    seen = set(zip(users.interactions()["user_id"], users.interactions()["item_id"], strict=True))
    assert not seen & set(zip(lists["user_id"], lists["item_id"], strict=True))
    why = users.explain(lists["item_id"][0], user_id="a")
    assert {reason.item_id for reason in why.support} == {ids[1], ids[2]}
    with pytest.raises(UserError, match="one of a, b"):
        users.explain(ids[0])
    with pytest.raises(UserError, match="no item 'nothing'"):
        users.predict(["nothing"])


def test_questions(opened: OpenWorkspace) -> None:
    champion = opened.champion
    asked = champion.questions(count=3)
    assert (asked.groupby("strategy").size() == 3).all()
    assert champion.recommended_strategy in set(asked["strategy"])
    worth = champion.simulate_questions()
    at_first = worth[worth["questions"] == 0]
    assert at_first["mae"].nunique() == 1
    assert (at_first["answers"] == 0).all()
    assert champion.plot_questions().png.startswith(b"\x89PNG")

    arguments = ["evidence", "-w", "workspace", "--count", "3", "--simulate"]
    said = CliRunner().invoke(build(), [*arguments, "--json"])
    data = json.loads(said.stdout.splitlines()[-1])
    assert [q["title"] for q in data["questions"]["greedy-loss"]] == asked.query(
        "strategy == 'greedy-loss'"
    )["title"].tolist()
    assert data["simulation"]["recommended"] == champion.recommended_strategy
    text = CliRunner().invoke(build(), arguments).stdout
    assert text.startswith("# What to ask a new user")
    assert "## MAE less that of asking about popular items" in text
    refused = CliRunner().invoke(build(), ["evidence", "--strategy", "popularty"])
    assert refused.exit_code == 2
    assert "Did you mean 'popularity'?" in refused.stderr


def test_there_must_be_a_workspace(tmp_path: str) -> None:
    with pytest.raises(UserError, match="is not a workspace"):
        recmeta.open_workspace(tmp_path)
