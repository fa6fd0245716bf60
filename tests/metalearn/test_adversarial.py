"""The adversarial learner: what each player's gradient is of, its likelihood, and what it draws."""

import math

import pytest
import torch
from amortised_tasks import known_rows, make
from maml_tasks import make_batch
from torch import Tensor

from recmeta.metalearn.algorithms.model_based.adversarial import (
    CRITIC,
    Adversarial,
    AdversarialConfig,
)
from recmeta.metalearn.inner_loop.amortised import Known
from recmeta.metalearn.learner import Params
from recmeta.metalearn.tensors.batch import TaskBatch
from recmeta.tasks.task_set import Objective

NUM_LEVELS = 5
STEP = 1.0
"""Between levels: the learner's values are from -2 to 2."""


def adversarial(objective: Objective = "rating", **values: float) -> tuple[Adversarial, Params]:
    config = AdversarialConfig(
        width=6,
        noise_dim=3,
        num_levels=NUM_LEVELS,
        estimate="mean",
        **values,  # type: ignore[arg-type]
    )
    learner, params = make(config, objective)
    assert isinstance(learner, Adversarial)
    return learner, params


def gradients(critic_weight: float, batch: TaskBatch) -> Params:
    learner, params = adversarial(critic_weight=critic_weight)
    found, _ = learner.meta_gradient(params, batch, torch.Generator().manual_seed(4))
    return found


def test_each_player_learns_by_its_own_loss_alone() -> None:
    """The critic's gradient does not know how much the generator heeds it; the generator's is a
    line in that weight, which with nothing else added to it goes through its likelihood's."""
    batch = make_batch(graded=True)
    none, one, three = (gradients(weight, batch) for weight in (0.0, 1.0, 3.0))
    for name, gradient in one.items():
        if name.startswith(CRITIC):
            assert not none[name].any()
            assert gradient.any(), name
            torch.testing.assert_close(three[name], gradient)
        else:
            heeded = gradient - none[name]
            torch.testing.assert_close(three[name] - none[name], 3 * heeded, msg=name)
    assert (one["taste.out.weight"] - none["taste.out.weight"]).any()


def test_the_critics_loss_is_logistic_with_a_penalty_on_its_slope() -> None:
    """Slopes by central differences, value by value."""
    learner, params = adversarial(gradient_penalty=0.7)
    support, query = known_rows(learner, (0, 1, 4)), known_rows(learner, (3, 1, 5))
    generator = torch.Generator().manual_seed(2)
    shape, double = query.value_BR.shape, torch.float64
    generated_BR = query.value_BR + torch.randn(shape, generator=generator, dtype=double)

    def judged(value_BR: Tensor) -> Tensor:
        return learner.judge(params, support, query, value_BR)

    square_B = torch.zeros(len(shape) + 1, dtype=double)
    for row in range(shape[1]):
        step_BR = torch.zeros(shape, dtype=double)
        step_BR[:, row] = 1e-5
        slope_B = (judged(query.value_BR + step_BR) - judged(query.value_BR - step_BR)) / 2e-5
        square_B += slope_B.square()
    real_B, false_B = judged(query.value_BR), judged(generated_BR)
    expected_B = (1 + (-real_B).exp()).log() + (1 + false_B.exp()).log()
    expected_B += 0.5 * 0.7 * square_B * torch.tensor([3.0, 1.0, 5.0], dtype=double)
    leaves = {name: p.requires_grad_() for name, p in params.items()}
    found_B = learner._critic_loss(leaves, support, query, generated_BR)
    torch.testing.assert_close(found_B, expected_B, rtol=1e-6, atol=1e-8)


@torch.no_grad()
@pytest.mark.parametrize("num_draws", [1, 3])
def test_the_likelihood_is_the_mean_over_the_draws(num_draws: int) -> None:
    learner, params = adversarial(num_draws=num_draws, critic_weight=0.0)
    support, query = known_rows(learner, (0, 2)), known_rows(learner, (4, 1))
    name_B, generator = torch.tensor([3, 8]), torch.Generator()
    noise_BMZ = learner._noise(name_B, support.user_BF, generator.manual_seed(6))
    found_B = learner.task_loss(params, support, query, name_B, generator.manual_seed(6))
    for b, count in enumerate((4, 1)):
        user = one(support, b)
        likelihood = 0.0
        for noise_Z in noise_BMZ[b]:
            taste_1MX = learner._tastes(params, user, noise_Z[None])
            asked = one(query, b)
            shift_1MR, log_spread_1R = learner._decode(params, taste_1MX, asked)
            mean_R = (asked.expected_BR + shift_1MR[:, 0])[0, :count]
            spread_R = log_spread_1R[0, :count].exp()
            z_R = (asked.value_BR[0, :count] - mean_R) / spread_R
            likelihood += float(((-0.5 * z_R.square()).exp() / spread_R).prod()) / num_draws
        assert float(found_B[b]) == pytest.approx(-math.log(likelihood) / count)


def one(known: Known, b: int) -> Known:
    """Return a single user's rows."""
    return Known(**{name: t[b : b + 1] for name, t in vars(known).items()})


@torch.no_grad()
def test_who_is_drawn_depends_on_their_name_alone() -> None:
    learner, params = adversarial()
    batch = make_batch(graded=True)
    num_users = len(batch)

    def drawn(name_B: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        return learner.draw(params, batch.support, batch.query, name_B, generator)

    forwards, backwards = drawn(torch.arange(num_users)), drawn(torch.arange(num_users).flip(0))
    middle = num_users // 2
    torch.testing.assert_close(forwards[middle], backwards[middle])
    assert (forwards[0] != backwards[0]).any(), "another name is another user"
    level_BR = (forwards + 2.0) / STEP
    torch.testing.assert_close(level_BR, level_BR.round())
    assert level_BR.min() >= 0
    assert level_BR.max() <= NUM_LEVELS - 1


@torch.no_grad()
def test_of_implicit_feedback_it_draws_what_was_taken() -> None:
    learner, params = adversarial("implicit")
    batch = make_batch(graded=False)
    name_B = torch.arange(len(batch))
    value_BR = learner.draw(params, batch.support, batch.query, name_B, torch.Generator())
    assert set(value_BR.flatten().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"noise_dim": 0}, "noise_dim is 0"),
        ({"num_draws": 0}, "num_draws is 0"),
        ({"critic_weight": -1.0}, "critic_weight is -1.0"),
        ({"gradient_penalty": -1.0}, "gradient_penalty is -1.0"),
    ],
)
def test_impossible_hyperparameters_are_refused(values: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AdversarialConfig(**values)  # type: ignore[arg-type]
