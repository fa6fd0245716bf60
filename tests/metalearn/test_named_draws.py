"""Draws by name are the same whoever else is there, and as random as others."""

import dataclasses

import numpy as np
import pytest
import torch

from recmeta.metalearn.algorithms.closed_form.bayesian_linear import BayesianLinearConfig
from recmeta.metalearn.algorithms.combined.selector import Member, SelectorConfig
from recmeta.metalearn.algorithms.optimisation_based.federated import FederatedConfig
from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig
from recmeta.metalearn.algorithms.optimisation_based.reptile import ReptileConfig
from recmeta.metalearn.learner_config import LearnerConfig
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.numerics.named_draws import generators_by, normal_by, uniform_by
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.conformance import LearnerConformance

NAMES = torch.arange(20_000)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_names_numbers_do_not_depend_on_the_others() -> None:
    whole = uniform_by(NAMES, 3, seeded())
    some = torch.tensor([7, 3, 19_999])
    assert torch.equal(uniform_by(some, 3, seeded()), whole[some])
    assert torch.equal(uniform_by(some, 2, seeded()), whole[some, :2])
    own, alone = generators_by(some, seeded()), generators_by(some[1:2], seeded())
    assert torch.equal(torch.rand(4, generator=own[1]), torch.rand(4, generator=alone[0]))


def test_the_generator_moves_alike_for_any_names() -> None:
    many, few = seeded(), seeded()
    uniform_by(NAMES, 9, many)
    uniform_by(NAMES[:1], 1, few)
    assert torch.equal(many.get_state(), few.get_state())
    assert not torch.equal(uniform_by(NAMES[:9], 1, many), uniform_by(NAMES[:9], 1, seeded()))


def test_uniform_and_normal_numbers_are_that() -> None:
    uniform = uniform_by(NAMES, 8, seeded()).flatten().sort().values
    expected = (torch.arange(len(uniform)) + 0.5) / len(uniform)
    # Kolmogorov and Smirnov: beyond 1.95 / √n in one of a thousand samples
    assert float((uniform - expected).abs().max()) < 1.95 / len(uniform) ** 0.5
    normal_NE = normal_by(NAMES, torch.zeros((len(NAMES), 8), dtype=torch.float64), seeded(1))
    shares = torch.special.ndtr(normal_NE.flatten().sort().values)
    assert float((shares - expected).abs().max()) < 1.95 / len(shares) ** 0.5
    correlations = np.corrcoef(normal_NE.T.numpy()) - np.eye(8)
    assert np.abs(correlations).max() < 4 / len(NAMES) ** 0.5
    between = np.corrcoef(normal_NE[:-1, 0], normal_NE[1:, 0])[0, 1]
    assert abs(between) < 4 / len(NAMES) ** 0.5


DRAWING: dict[str, tuple[str, LearnerConfig]] = {
    "items are hidden": ("maml", MAMLConfig(hidden_share=0.5)),
    "few rows at a time": ("reptile", ReptileConfig(minibatch_share=0.3, hidden_share=0.5)),
    "clients go some steps": (
        "federated",
        FederatedConfig(
            algorithm="bayesian-linear",
            learner=BayesianLinearConfig(hidden_share=0.5),
            local_steps=2,
            clip_norm=0.5,
            noise_multiplier=1.0,
        ),
    ),
    "members learn along": (
        "selector",
        SelectorConfig(
            members=(
                Member(algorithm="bayesian-linear", learner=BayesianLinearConfig(hidden_share=0.5)),
                Member(algorithm="latent-np"),
            ),
            members_learn=True,
        ),
    ),
}


@pytest.mark.parametrize("what", DRAWING)
def test_a_batch_is_the_mean_of_its_parts_whatever_is_drawn(what: str) -> None:
    algorithm, learner = DRAWING[what]

    class Suite(LearnerConformance):
        def make_model(self, task_set: TaskSet) -> Model:
            config = ModelConfig(
                network=PreferenceConfig(embedding_dim=4, hidden_dims=(8,)), algorithm=algorithm
            )
            config = dataclasses.replace(config, learner=learner)
            return Model.untrained(config, task_set, torch.device("cpu"))

    suite = Suite()
    subject = suite.make_subject()
    suite.test_a_batch_is_the_mean_of_its_parts(subject)
