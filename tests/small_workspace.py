"""A small workspace with two models, as analysts meet one."""

import dataclasses
from pathlib import Path

from recmeta import pipeline
from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.metalearn.outer_loop.trainer import TrainingConfig
from recmeta.recipes import PipelineConfig
from recmeta.testing.synthetic import SyntheticConfig, generate, write_csv
from recmeta.training.recipes import training_of
from recmeta.workspace import Workspace

BASELINES = ("item-mean", "item-mean-user-bias", "popularity", "mf-fold-in", "item-knn")


def build(folder: Path) -> Workspace:
    """Take a small synthetic log all the way through the pipeline, with one learner and with
    another; the second is the champion."""
    log = generate(SyntheticConfig(num_users=200, num_items=50, rows_per_user=(8, 20)), seed=0)
    write_csv(log, folder)
    mapping = LogMapping(
        path=str(folder / "interactions.csv"),
        time_col="timestamp",
        value_col="value",
        items=AttributeSource(
            path=str(folder / "items.csv"),
            id_col="item_id",
            columns={"tags": Attribute(kind="multi")},
        ),
        users=AttributeSource(
            path=str(folder / "users.csv"),
            id_col="user_id",
            columns={"group": Attribute(kind="categorical")},
        ),
    )
    place = Workspace(folder / "workspace")
    for learner in ("maml", "bayesian-linear"):
        config = PipelineConfig(train=training_of(learner))
        pipeline.run(_brief(config), mapping, place, force=True)
    return place


def _brief(config: PipelineConfig) -> PipelineConfig:
    training = TrainingConfig(epochs=2, learning_rate=config.train.training.learning_rate)
    train = dataclasses.replace(config.train, training=training)
    if train.model.algorithm == "maml":
        train = dataclasses.replace(train, start="random")  # without a factorisation to tune
    evaluation = dataclasses.replace(config.evaluate.evaluation, num_resamples=200)
    judged = dataclasses.replace(config.evaluate, evaluation=evaluation, baselines=BASELINES)
    return dataclasses.replace(config, train=train, evaluate=judged)
