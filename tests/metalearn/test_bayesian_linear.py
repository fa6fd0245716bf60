"""Bayesian linear regression keeps what every learner must keep, and its closed form is right.

Legend: B users, S support rows, R query rows, W weights.
"""

import dataclasses

import numpy as np
import pytest
import torch

from recmeta.metalearn.algorithms.closed_form.bayesian_linear import (
    BayesianLinear,
    BayesianLinearConfig,
)
from recmeta.metalearn.learner import Params
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.item_vectors import DEVIATION, FACTORS, HELD_OUT, IDENTITY, UNKNOWN
from recmeta.metalearn.networks.user_prior import PRIOR_LOG_PRECISION, PRIOR_MEAN
from recmeta.metalearn.outer_loop.trainer import TrainingConfig
from recmeta.metalearn.starts.bayesian_linear_start import LOG_NOISE, PRIOR_BY_SUPPORT
from recmeta.metalearn.tensors.batch import Rows, TaskBatch
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.conformance import LearnerConformance
from recmeta.testing.rounding import tolerances

ROUNDINGS = 500
"""Sums over a dozen rows, features and weights, and a factorisation of a few weights' precision."""
SMALL = BayesianLinearConfig(num_factors=3, estimate="mean", learn_content=True)


def make_model(task_set: TaskSet, config: BayesianLinearConfig) -> Model:
    return Model.untrained(
        ModelConfig(algorithm="bayesian-linear", learner=config),
        task_set,
        torch.device("cpu"),
    )


class TestBayesianLinear(LearnerConformance):
    config = BayesianLinearConfig(num_factors=4, learn_content=True)
    training = TrainingConfig(epochs=8, learning_rate=1e-2, weight_decay=0.0)
    fixed = (FACTORS, DEVIATION, HELD_OUT)

    def make_model(self, task_set: TaskSet) -> Model:
        return make_model(task_set, self.config)


class TestMeanOfBayesianLinear(TestBayesianLinear):
    config = BayesianLinearConfig(
        num_factors=4, learn_content=True, estimate="mean", use_statistics=True
    )


class TestImplicitBayesianLinear(TestBayesianLinear):
    objective = "implicit"


# Against an oracle -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A model with parameters that are nowhere zero, and a ragged batch, in float64."""

    learner: BayesianLinear
    params: Params
    batch: TaskBatch


@pytest.fixture
def drawn(task_set: TaskSet) -> Drawn:
    model = make_model(task_set, SMALL)
    assert isinstance(model.learner, BayesianLinear)
    generator = torch.Generator().manual_seed(1)
    params = {
        name: p.double() + 0.2 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for name, p in model.learner.init_params(generator).items()
    }
    tasks = task_set.tasks("train").take(np.arange(5))
    shots = np.array([0, 1, 2, 3, 100])
    support = tasks.support.select(tasks.support.position < shots[tasks.support.task])
    return Drawn(model.learner, params, model.batch(dataclasses.replace(tasks, support=support)))


def oracle(drawn: Drawn, user: int) -> tuple[np.ndarray, np.ndarray]:
    """Return means and standard deviations for a user's query, by inverting matrices row by row."""
    params = {name: p.numpy() for name, p in drawn.params.items()}
    rows, query = drawn.batch.support.rows, drawn.batch.query
    features = drawn.learner.item_features

    def vectors(item_R: torch.Tensor) -> np.ndarray:
        found: np.ndarray = drawn.learner.vectors.of_items(drawn.params, features, item_R)[
            :, 0
        ].numpy()
        return found

    known_SX = vectors(rows.item_BR[user][rows.mask_BR[user]])
    value_S = rows.value_BR[user][rows.mask_BR[user]].double().numpy()
    asked_RX = vectors(query.item_BR[user])
    count = len(value_S)
    seen_X = np.append(known_SX.sum(0) / (count + 3.0), np.log1p(count) / 4)
    prior_W = params[PRIOR_MEAN] + seen_X @ params[PRIOR_BY_SUPPORT]
    for field in drawn.learner.user_fields:
        read = drawn.batch.support.user[field.name][user].numpy()
        if field.kind == "numeric":
            prior_W = prior_W + params[f"prior.user.{field.name}"][0] * read
        else:
            codes = read[read > 0].reshape(-1)
            told_W = params[f"embedding.user.{field.name}"][codes].sum(0)
            prior_W = prior_W + told_W / max(len(codes), 1)
    precision_WW = np.diag(np.exp(params[PRIOR_LOG_PRECISION]))
    right_W = precision_WW @ prior_W
    for vector_X, value in zip(known_SX, value_S, strict=True):
        row_W = np.append(1.0, vector_X[1:-1])
        noise = np.exp(params[LOG_NOISE] + vector_X[-1])
        precision_WW = precision_WW + np.outer(row_W, row_W) / noise
        right_W = right_W + row_W * (value - vector_X[0]) / noise
    covariance_WW = np.linalg.inv(precision_WW)
    design_RW = np.concatenate([np.ones((len(asked_RX), 1)), asked_RX[:, 1:-1]], 1)
    mean_R = asked_RX[:, 0] + design_RW @ covariance_WW @ right_W
    variance_R = np.einsum("rw,wv,rv->r", design_RW, covariance_WW, design_RW)
    return mean_R, np.sqrt(variance_R + np.exp(params[LOG_NOISE] + asked_RX[:, -1]))


def test_posterior_mean_and_spread_are_exact(drawn: Drawn) -> None:

    def predicted(params: Params) -> Params:
        state = drawn.learner.adapt(params, drawn.batch.support)
        found = drawn.learner.predict(params, state, drawn.batch.query)
        assert found.spread_BR is not None
        return {"mean": found.mean_BR, "spread": found.spread_BR}

    found = predicted(drawn.params)
    allowed = tolerances(predicted, drawn.params, roundings=ROUNDINGS)
    for user in range(5):
        for name, exact_R in zip(("mean", "spread"), oracle(drawn, user), strict=True):
            got_R = found[name][user].numpy()
            np.testing.assert_allclose(got_R, exact_R, rtol=0, atol=allowed[name], err_msg=name)


def test_a_prepared_catalogue_gives_the_same(drawn: Drawn) -> None:
    state = drawn.learner.adapt(drawn.params, drawn.batch.support)
    one_user = dataclasses.replace(
        drawn.batch.query, **{n: t[:1] for n, t in vars(drawn.batch.query).items()}
    )
    prepared = drawn.learner.predict(
        drawn.params, state, drawn.learner.prepare(drawn.params, one_user)
    )
    everyone = dataclasses.replace(
        one_user, **{n: t.expand(5, *t.shape[1:]) for n, t in vars(one_user).items()}
    )
    plain = drawn.learner.predict(drawn.params, state, everyone)
    torch.testing.assert_close(prepared.mean_BR, plain.mean_BR)
    torch.testing.assert_close(prepared.spread_BR, plain.spread_BR)


def test_more_support_never_widens_the_spread(drawn: Drawn) -> None:
    """Of the same user and item: a posterior's variance only shrinks."""
    state = drawn.learner.adapt(drawn.params, drawn.batch.support)
    none = {"weights": state["weights"][:1], "whitener": state["whitener"][:1]}  # user 0: 0 rows
    last = {"weights": state["weights"][4:], "whitener": state["whitener"][4:]}
    query = dataclasses.replace(
        drawn.batch.query, **{n: t[4:] for n, t in vars(drawn.batch.query).items()}
    )
    before = drawn.learner.predict(drawn.params, none, query).spread_BR
    after = drawn.learner.predict(drawn.params, last, query).spread_BR
    assert before is not None
    assert after is not None
    assert (after < before).all()


def test_where_medians_are_predicted_the_mean_is_ranked_by(task_set: TaskSet, drawn: Drawn) -> None:
    learner = make_model(
        task_set, dataclasses.replace(SMALL, estimate="median", num_levels=5)
    ).learner
    assert isinstance(learner, BayesianLinear)
    params = drawn.params | {name: p.double() for name, p in learner.median.init_params().items()}
    state = learner.adapt(params, drawn.batch.support)
    predicted = learner.predict(params, state, drawn.batch.query)
    for user in range(5):
        mean_R, _ = oracle(drawn, user)
        np.testing.assert_allclose(predicted.ranked_by_BR[user].numpy(), mean_R, rtol=1e-9)
    assert not torch.allclose(predicted.mean_BR, predicted.ranked_by_BR)


@pytest.mark.parametrize("estimate", ["mean", "median"])
@pytest.mark.parametrize("hidden_share", [0.0, 1.0])
def test_the_gradient_is_that_of_the_loss(
    task_set: TaskSet, drawn: Drawn, estimate: str, hidden_share: float
) -> None:
    """Central differences of the query loss plus penalty, along a random direction."""
    config = dataclasses.replace(
        SMALL,
        estimate=estimate,
        hidden_share=hidden_share,
        identity_penalty=0.0,
        outer_objective="squared",
    )
    learner = make_model(task_set, config).learner
    generator = torch.Generator().manual_seed(2)
    gradients, _ = learner.meta_gradient(drawn.params, drawn.batch, generator)
    direction = {
        name: torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for name, p in drawn.params.items()
        if name not in (FACTORS, DEVIATION, HELD_OUT)
    }
    expected = sum(float((gradients[name] * d).sum()) for name, d in direction.items())
    step = 1e-5
    losses = []
    for sign in (1, -1):
        generator = torch.Generator().manual_seed(2)
        moved = {n: p + sign * step * direction.get(n, 0.0) for n, p in drawn.params.items()}
        losses.append(learner.meta_gradient(moved, drawn.batch, generator)[1]["loss"])
    assert expected == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-5, abs=1e-8)


# New items ---------------------------------------------------------------------------------------


def test_hidden_users_teach_nothing_about_identities(task_set: TaskSet, drawn: Drawn) -> None:
    config = dataclasses.replace(SMALL, hidden_share=1.0, identity_penalty=0.0)
    learner = make_model(task_set, config).learner
    gradients, _ = learner.meta_gradient(
        drawn.params, drawn.batch, torch.Generator().manual_seed(0)
    )
    assert not gradients[IDENTITY].any()
    assert gradients[UNKNOWN].any()


def test_frozen_content_stays(task_set: TaskSet) -> None:
    config = dataclasses.replace(SMALL, learn_content=False)
    model = make_model(task_set, config)
    assert isinstance(model.learner, BayesianLinear)
    params = model.learner.init_params(torch.Generator().manual_seed(0))
    batch = model.batch(task_set.tasks("train").take(np.arange(8)))
    gradients, _ = model.learner.meta_gradient(params, batch, torch.Generator().manual_seed(0))
    frozen = model.learner.vectors.frozen
    assert frozen
    assert gradients.keys() == params.keys() - frozen


# Estimates ---------------------------------------------------------------------------------------


def test_the_median_stays_on_the_scale_and_rises_with_the_mean(drawn: Drawn) -> None:
    median = drawn.learner.median
    params = median.init_params()
    mean_BR = torch.linspace(-9, 9, 400)[None]
    found_BR = median.of(params, mean_BR, torch.ones_like(mean_BR))
    assert (found_BR.diff() >= 0).all()
    highest = median.lowest + median.step * median.num_thresholds
    assert found_BR.min() >= median.lowest
    assert found_BR.max() <= highest + 1e-5
    halfway = torch.tensor([[0.5 * (median.lowest + highest)]])
    torch.testing.assert_close(median.of(params, halfway, torch.ones(1, 1)), halfway)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_factors", 0),
        ("num_levels", 1),
        ("hidden_share", 1.5),
        ("identity_penalty", -1.0),
        ("likelihood_weight", -1.0),
    ],
)
def test_settings_that_make_no_sense_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        BayesianLinearConfig(**{field: value})


def test_the_likelihood_counts_where_one_value_is_most_of_all() -> None:
    config = BayesianLinearConfig()
    assert config.with_levels(5, top_share=0.34).likelihood_weight == 0
    assert config.with_levels(5, top_share=0.9).likelihood_weight == 1
    told = BayesianLinearConfig(likelihood_weight=0.2)
    assert told.with_levels(5, top_share=0.9).likelihood_weight == 0.2


def test_the_likelihood_is_added_to_what_is_learned_and_not_to_the_loss(drawn: Drawn) -> None:
    """Three weights on a line, in float64."""
    learner, batch = drawn.learner, drawn.batch
    found = []
    for weight in (0.0, 1.0, 3.0):
        learner.likelihood_weight = weight
        found.append(learner.meta_gradient(drawn.params, batch, torch.Generator().manual_seed(0)))
    (alone, loss), (once, loss_once), (thrice, _) = found
    assert loss == loss_once
    assert any((once[name] - alone[name]).abs().max() > 1e-6 for name in alone)
    for name in alone:
        expected = alone[name] + 3 * (once[name] - alone[name])
        torch.testing.assert_close(thrice[name], expected)


def test_a_catalogue_is_ordered_by_expected_values(drawn: Drawn) -> None:
    learner, params = drawn.learner, drawn.params
    rows = Rows(*(t[:1] for t in vars(drawn.batch.query).values()))
    state = learner.adapt(params, drawn.batch.support)
    expected = learner.predict(params, state, rows).ranked_by_BR
    found = learner.ranked_by(params, learner.settle(params, state), learner.prepare(params, rows))
    torch.testing.assert_close(found, expected)


def test_leaving_a_row_out_is_fitting_without_it(drawn: Drawn) -> None:
    """Rank-one corrections against a posterior that never saw the row, in float64."""
    learner, params, support = drawn.learner, drawn.params, drawn.batch.support

    def without(params: Params) -> Params:
        found_BVR = learner.ranked_without(params, support, drawn.batch.query)
        assert found_BVR is not None
        return {"scores": found_BVR}

    found_BVR = without(params)["scores"]
    allowed = tolerances(without, params, roundings=ROUNDINGS)["scores"]
    mask_BS = support.rows.mask_BR
    for variant in range(1 + mask_BS.shape[1]):
        kept_BS = mask_BS.clone()
        if variant:
            kept_BS[:, variant - 1] = False
        rows = dataclasses.replace(support.rows, mask_BR=kept_BS)
        state = learner.adapt(params, dataclasses.replace(support, rows=rows))
        expected_BR = learner.predict(params, state, drawn.batch.query).ranked_by_BR
        has_row_B = mask_BS[:, variant - 1] if variant else torch.ones(len(mask_BS)).bool()
        torch.testing.assert_close(
            found_BVR[:, variant][has_row_B], expected_BR[has_row_B], rtol=0, atol=allowed
        )


def test_a_row_that_says_nearly_all_is_left_out_exactly(drawn: Drawn) -> None:
    """Float32 parameters, the least noise and the weakest prior: the leverage is nearly 1."""
    learner, support = drawn.learner, drawn.batch.support
    params = {**drawn.params, LOG_NOISE: torch.tensor(-9.0, dtype=torch.float64)}
    params[PRIOR_LOG_PRECISION] = torch.full_like(params[PRIOR_LOG_PRECISION], -9.0)
    exact = learner.ranked_without(params, support, drawn.batch.query)
    single = {name: p.float() for name, p in params.items()}
    found = learner.ranked_without(single, support, drawn.batch.query)
    assert exact is not None
    assert found is not None
    own_BV = torch.nn.functional.pad(support.rows.mask_BR, (1, 0), value=True)
    torch.testing.assert_close(found.double()[own_BV], exact[own_BV], rtol=1e-2, atol=1e-2)
