"""Where ratings are of two levels, lists are of what got the higher one, however many met the rest.

The log has five items that nearly everybody meets and nobody likes.
"""

import dataclasses

import numpy as np
import polars as pl
import pytest
import torch

from recmeta import schema
from recmeta.api.data.dataset import Dataset
from recmeta.evaluation.fit_baselines import fit_baselines
from recmeta.evaluation.learned import LearnedPredictor
from recmeta.evaluation.measuring.catalogue_ranking import candidate_scores, top_items
from recmeta.metalearn.heads.list_head import ListHead
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.recipes.configuration import pipeline_config
from recmeta.tasks.arrays import IntArray
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.training.lists.learn import learn_lists

NUM_DISLIKED = 5
BASELINES = ("popularity", "ease", "item-knn", "user-knn")


def rows_of(levels: tuple[float, ...]) -> pl.DataFrame:
    """Return the rows of a log; its values are those of the levels in which a third each falls."""
    config = SyntheticConfig(num_users=220, num_items=60, rows_per_user=(8, 20))
    log = pl.DataFrame(generate(config, 0).interactions)
    met = log[schema.ITEM_ID].value_counts(sort=True)[schema.ITEM_ID]
    value = log[schema.VALUE].to_numpy()
    place = np.searchsorted(np.quantile(value, np.linspace(0, 1, len(levels) + 1)[1:-1]), value)
    return log.with_columns(
        pl.when(pl.col(schema.ITEM_ID).is_in(met.head(NUM_DISLIKED).implode()))
        .then(levels[0])
        .otherwise(pl.Series(np.array(levels)[place]))
        .alias(schema.VALUE)
    )


def task_set_of(rows: pl.DataFrame, *, timed: bool = True) -> TaskSet:
    log = Dataset.from_frame(
        rows if timed else rows.drop(schema.TIMESTAMP),
        timestamp=schema.TIMESTAMP if timed else None,
        value=schema.VALUE,
        feedback="rating",
    )
    return log.task_set(pipeline_config(seed=0).tasks)


@pytest.fixture(scope="module")
def labels() -> pl.DataFrame:
    return rows_of((0.0, 1.0))


@pytest.fixture(scope="module")
def task_set(labels: pl.DataFrame) -> TaskSet:
    return task_set_of(labels)


@pytest.fixture(scope="module")
def disliked(labels: pl.DataFrame, task_set: TaskSet) -> IntArray:
    """Return the numbers of the items that nobody likes."""
    likes = labels.group_by(schema.ITEM_ID).agg(pl.col(schema.VALUE).max())
    never = set(likes.filter(pl.col(schema.VALUE) == 0)[schema.ITEM_ID])
    ids = task_set.items().item_id.to_pylist()
    return np.flatnonzero([item in never for item in ids])


def test_two_levels_say_what_was_taken_and_more_do_not(task_set: TaskSet) -> None:
    assert task_set.spec.taken_from == 1.0
    assert task_set_of(rows_of((1.0, 2.0, 3.0))).spec.taken_from is None


def test_the_history_is_of_likes_and_the_statistics_of_all(
    labels: pl.DataFrame, task_set: TaskSet
) -> None:
    statistics, now = task_set.statistics(), task_set.history().now(None)
    ids = task_set.items().item_id.to_pylist()
    for kept, counted in ((labels.filter(pl.col(schema.VALUE) == 1.0), now), (labels, None)):
        found = statistics.num_users[-1] if counted is None else counted
        expected = dict(kept[schema.ITEM_ID].value_counts().iter_rows())
        assert found.tolist() == [expected.get(item, 0) for item in ids]


@pytest.mark.parametrize("timed", [True, False])
def test_no_baseline_lists_what_all_met_and_nobody_liked(
    labels: pl.DataFrame, disliked: IntArray, *, timed: bool
) -> None:
    task_set = task_set_of(labels, timed=timed)
    cold, statistics = task_set.tasks("test"), task_set.statistics()
    most_met = np.argsort(-statistics.num_users[-1])[:3]
    assert set(most_met) <= set(disliked)
    fitted = fit_baselines(
        task_set.spec,
        task_set.tasks("train"),
        task_set.tasks("dev"),
        names=BASELINES,
        history=task_set.history(),
    )
    for name in BASELINES:
        listed = top_items(candidate_scores(fitted[name].score_items(cold), cold)[0], 10)
        assert not np.isin(listed, disliked).any(), name


def test_learned_lists_read_what_was_taken(task_set: TaskSet, disliked: IntArray) -> None:
    network = PreferenceConfig(embedding_dim=2, hidden_dims=(4,))
    model = Model.untrained(ModelConfig(network=network), task_set, torch.device("cpu"))
    model.params = model.learner.init_params(torch.Generator().manual_seed(0))
    found = learn_lists(model, task_set, seed=0)
    assert found is not None
    learned = found.head
    assert learned is not None
    assert learned.taken_from == 1.0
    assert (learned.count_I[torch.from_numpy(disliked)] == 0).all()
    for table in learned.tables.values():
        assert not np.isin(table.item.numpy(), disliked).any()
    model.learned_lists = learned
    cold = task_set.tasks("test")
    scores_BI = LearnedPredictor("lists", model, task_set.history()).score_items(cold)
    assert not np.isin(top_items(candidate_scores(scores_BI, cold)[0], 10), disliked).any()


def test_a_row_that_was_not_taken_says_nothing_or_speaks_against() -> None:
    head = dataclasses.replace(
        ListHead.of_popularity(1.0, np.ones(3, np.float32), torch.device("cpu")), taken_from=1.0
    )
    values = np.array([0.0, 1.0], np.float32)
    assert head.row_weights(values).tolist() == [0.0, 1.0]
    centred = dataclasses.replace(head, centre=0.25)
    assert centred.row_weights(values).tolist() == [-0.25, 0.75]
    again = ListHead.from_saved(head.about(), head.tensors(), torch.device("cpu"))
    assert again.taken_from == 1.0
    about = head.about()
    del about["taken_from"]  # as an earlier version wrote it
    old = ListHead.from_saved(about, head.tensors(), torch.device("cpu"))
    assert old.row_weights(values).tolist() == [1.0, 1.0]
