"""A training that goes on from the champion."""

import dataclasses
import os
from pathlib import Path

import pytest

from recmeta.logs.mapping import LogMapping
from recmeta.logs.split_by_day import split_by_day
from recmeta.manifest import Manifest
from recmeta.recipes import default
from recmeta.registry.models import versions
from recmeta.registry.tracking import data_versions
from recmeta.steps.data import build_tasks, ingest
from recmeta.steps.learning import evaluate, meta_train, register
from recmeta.steps.learning.meta_train import MetaTrainOutputs
from recmeta.testing.synthetic import SyntheticConfig, generate, write_csv
from recmeta.training.recipes import training_of
from recmeta.workspace import Workspace

slow = pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it")


# The closed-form learner begins near its end in either case: from factors, or from the champion.
@pytest.mark.parametrize(
    ("learner", "at_most"),
    [pytest.param("maml", 1.0, marks=(slow, pytest.mark.slow)), ("bayesian-linear", 1.03)],
)
def test_what_the_champion_has_learned_is_not_learned_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learner: str, at_most: float
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    ws = Workspace(tmp_path / "ws")
    write_csv(generate(SyntheticConfig(num_users=150, num_items=60), seed=0), tmp_path / "raw")
    log = LogMapping(
        path=str(tmp_path / "raw" / "interactions.csv"), time_col="timestamp", value_col="value"
    )
    split = split_by_day(log, str(tmp_path / "days"), num_days=3)
    assert split.history is not None
    recipe, how = default(), training_of(learner)
    training = dataclasses.replace(how.training, epochs=4)
    config = dataclasses.replace(how, training=training, start="champion")

    def train() -> Manifest[MetaTrainOutputs]:
        tasks = build_tasks.run(recipe.tasks, ws)
        return meta_train.run(config, ws, tasks, device="cpu")

    def promote(model: Manifest[MetaTrainOutputs]) -> str:
        tasks = build_tasks.run(recipe.tasks, ws)
        judged = dataclasses.replace(
            recipe.evaluate, baselines=("item-mean", "popularity", "mf-fold-in")
        )
        report = evaluate.run(judged, ws, tasks, model, device="cpu")
        version: str = register.run(ws, report, force=True).outputs.model_version
        return version

    def losses(model: Manifest[MetaTrainOutputs]) -> list[float]:
        history = (ws / model.outputs.model).read_json("history.json")
        return [epoch["dev_loss"] for epoch in history]

    ingest.run(split.history, ws)
    first = train()
    assert "champion" not in first.inputs  # there is none: from factors
    version = promote(first)
    assert train().reused  # the champion does not start from itself
    for day in split.days:
        path = split.daily.path.replace("{date}", day.isoformat())
        ingest.run(dataclasses.replace(split.daily, path=path), ws)
    second = train()
    assert second.inputs["champion"] == version
    assert data_versions(ws, second.outputs.run_id)["champion"] == version
    assert losses(second)[0] < at_most * losses(first)[0]
    promote(second)
    champion = versions.champion(ws)
    assert champion is not None
    assert champion.model_key == second.key
    again = train()
    assert again.reused
    assert again.key == second.key
