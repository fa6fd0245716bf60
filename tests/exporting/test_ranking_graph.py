"""A graph orders the catalogue as the server does, for any learner that has one."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from random_models import (
    bayes,
    drawn_user,
    inputs_for,
    on_bayes,
    random_model,
    with_every_column,
)

from recmeta import schema
from recmeta.errors import UserError
from recmeta.metalearn.algorithms.closed_form.weighted_ridge import WeightedRidgeConfig
from recmeta.metalearn.algorithms.metric_based.prototypical import PrototypicalConfig
from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig
from recmeta.metalearn.member_config import Member
from recmeta.metalearn.model import Model
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.intake import Intake
from recmeta.serving.ranking import Ranker, ScoringConfig, adapt_users
from recmeta.tasks.task_set import TaskSet

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
from recmeta.exporting.ranking_graph import ranking_graph  # noqa: E402  needs the extra

TOP_K = 8
NUM_ROWS = (0, 1, 2, 3, 5, 12, 39, 40)
TOLERANCE = 1e-5
"""Of scores, relative to their largest size: both sides compute in float32."""


RATED: dict[str, Callable[[TaskSet], Model]] = {
    "bayesian-linear": lambda tasks: random_model(
        tasks, "bayesian-linear", bayes(use_statistics=True)
    ),
    "maml": lambda tasks: random_model(tasks, "maml", MAMLConfig()),
    "maml of a narrow network": lambda tasks: random_model(
        tasks,
        "maml",
        MAMLConfig(num_steps=2, inner_objective="absolute"),
        network=PreferenceConfig(
            embedding_dim=2, hidden_dims=(5,), wide=False, start_from_item_mean=True
        ),
    ),
    "rates of each parameter": lambda tasks: random_model(
        tasks, "maml", MAMLConfig(num_steps=1, rates_per="parameter")
    ),
    "the last layer": lambda tasks: random_model(tasks, "maml", MAMLConfig(adapt_layers="last")),
    "maml on bayesian-linear": on_bayes,
}


@pytest.mark.parametrize("name", RATED)
@pytest.mark.parametrize("in_order", [True, False])
def test_a_graph_of_ratings_ranks_as_the_server(
    rated: TaskSet, name: str, *, in_order: bool
) -> None:
    model = with_every_column(RATED[name](rated), rated, in_order=in_order, graded=in_order)
    assert_ranks_alike(model)


def test_a_graph_of_clicks_ranks_as_the_server(clicked: TaskSet) -> None:
    learner = WeightedRidgeConfig(num_factors=3)
    model = random_model(clicked, "weighted-ridge", learner)
    assert_ranks_alike(with_every_column(model, clicked, in_order=True, graded=False))


def test_layers_without_output_are_left_out(clicked: TaskSet) -> None:
    base = Member(algorithm="weighted-ridge", learner=WeightedRidgeConfig(num_factors=3))
    model = random_model(clicked, "maml", MAMLConfig(base=base))
    with pytest.raises(UserError, match="draws as not taken"):
        ranking_graph(model, {})
    model.params = model.learner.init_params(torch.Generator().manual_seed(0))
    assert_ranks_alike(model)


def test_what_has_no_graph_is_refused(rated: TaskSet, clicked: TaskSet) -> None:
    with pytest.raises(UserError, match="'prototypical', which has no ONNX graph"):
        ranking_graph(random_model(rated, "prototypical", PrototypicalConfig()), {})
    with pytest.raises(UserError, match="not: train 'weighted-ridge'"):
        ranking_graph(random_model(clicked, "bayesian-linear", bayes()), {})
    network = PreferenceConfig(embedding_dim=2, hidden_dims=(4,), layer_norm=True)
    with pytest.raises(UserError, match="not a chain of linear layers"):
        ranking_graph(random_model(rated, "maml", MAMLConfig(), network=network), {})


def assert_ranks_alike(model: Model) -> None:
    """Compare scores and lists of users with few and with many rows, padded or not."""
    content = ranking_graph(model, {"model_version": "7"}).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["model_version"] == "7"
    scorer, intake, num_items = Scorer.of(model).ready(), Intake(model), 40
    ranker = Ranker(scorer, ScoringConfig(top_k=TOP_K))
    block = scorer.item_block(-1, schema.END_OF_TIME, 0, num_items)
    for seed, num_rows in enumerate(NUM_ROWS):
        user = drawn_user(model, num_rows, seed)
        users = adapt_users(scorer, intake.tasks([user]))
        wanted_I = scorer.rank_block(scorer.settled(users.state), block)[0].numpy()
        ranked = ranker.rank(users)
        inputs = inputs_for(model, user, TOP_K, padding=seed % 3)
        score_I, item_K, score_K = session.run(["score", "top_item", "top_score"], inputs)
        size = max(1.0, float(np.abs(wanted_I).max()))
        np.testing.assert_allclose(score_I, wanted_I, rtol=0, atol=TOLERANCE * size)
        np.testing.assert_allclose(score_K, ranked.worth_Bk[0], rtol=0, atol=TOLERANCE * size)
        wanted_K = ranked.item_Bk[0]
        np.testing.assert_array_equal(np.where(np.isfinite(score_K), item_K, -1), wanted_K)
