"""On a log whose optimum is known, a meta-learned model comes close to it, shot by shot."""

import numpy as np
import pytest
import torch

from recmeta.evaluation.evaluate import EvaluationConfig, evaluate
from recmeta.evaluation.fit_baselines import fit_baselines
from recmeta.evaluation.learned import LearnedPredictor
from recmeta.evaluation.result import Evaluation
from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.outer_loop.trainer import TrainingConfig, train
from recmeta.tasks.episodes import EpisodeConfig
from recmeta.testing.synthetic import BayesOptimal, SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.workspace import Folder

SHOTS = (0, 1, 2, 5, 10)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    log = generate(SyntheticConfig(num_users=1200, num_items=100, rows_per_user=(20, 40)), seed=0)
    task_set = write_task_set(log, Folder.at(tmp_path_factory.mktemp("tasks")))
    train_tasks, dev_tasks = task_set.tasks("train"), task_set.tasks("dev")
    model = Model.untrained(
        ModelConfig(
            network=PreferenceConfig(embedding_dim=16, hidden_dims=(64, 32)),
            learner=MAMLConfig(num_steps=3),
        ),
        task_set,
        torch.device("cpu"),
    )
    model.value_range = (-np.inf, np.inf)  # the optimum is not clipped either
    train(
        model,
        train_tasks,
        dev_tasks,
        episodes=EpisodeConfig(batch_size=32),
        config=TrainingConfig(epochs=20, learning_rate=5e-3, weight_decay=0.01),
        seed=0,
    )
    predictors = {
        **fit_baselines(task_set.spec, train_tasks, dev_tasks),
        "maml": LearnedPredictor("maml", model),
        "bayes-optimal": BayesOptimal(log),
    }
    config = EvaluationConfig(shots=SHOTS, num_resamples=200, num_negatives=0)
    return evaluate(predictors, task_set.tasks("test"), task_set.spec, config)


def curve(evaluation: Evaluation, name: str) -> dict[int, float]:
    """Return the mean absolute error by number of shots."""
    points = evaluation.curve.points[name]
    return dict(zip(evaluation.curve.shots, (p.mean for p in points), strict=True))


def test_nothing_beats_the_optimum(evaluation: Evaluation) -> None:
    optimum = curve(evaluation, "bayes-optimal")
    for name in evaluation.curve.points:
        assert all(curve(evaluation, name)[n] >= optimum[n] for n in SHOTS), name


def test_ten_ratings_bring_the_model_within_a_fifth_of_the_optimum(evaluation: Evaluation) -> None:
    assert curve(evaluation, "maml")[10] < 1.2 * curve(evaluation, "bayes-optimal")[10]


def test_a_new_user_is_met_within_a_tenth_of_the_optimum(evaluation: Evaluation) -> None:
    """Profiles tell a share of the preferences, and the model reads them."""
    found = curve(evaluation, "maml")
    assert found[0] < 1.1 * curve(evaluation, "bayes-optimal")[0]
    assert found[0] < curve(evaluation, "item-mean")[0]


def test_adapting_wins_most_of_what_there_is_to_win(evaluation: Evaluation) -> None:
    found, optimum = curve(evaluation, "maml"), curve(evaluation, "bayes-optimal")
    assert found[0] > found[2] > found[5] > found[10]
    assert found[0] - found[10] > 0.75 * (optimum[0] - optimum[10])


def test_it_beats_means_by_far(evaluation: Evaluation) -> None:
    adapted = curve(evaluation, "maml")[10]
    for name in ("global-mean", "item-mean", "item-mean-user-bias"):
        assert adapted < 0.8 * curve(evaluation, name)[10], name
