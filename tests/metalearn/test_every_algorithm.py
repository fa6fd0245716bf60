"""Every algorithm that is registered keeps what every learner must keep, with its defaults."""

import dataclasses

import pytest
import torch

from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.outer_loop.trainer import TrainingConfig
from recmeta.metalearn.registry import LEARNERS, config_class
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.conformance import LearnerConformance

SLOW_TO_LEARN = ("transformer-np",)
"""Those with which adapting pays after the suite's own eight epochs; after four with the others."""
SMALL = PreferenceConfig(embedding_dim=4, hidden_dims=(8,))
FACTORS = ("factors.", "deviation.", "held_out.")
CONTENT = ("content.", "embedding.item.genre", "embedding.item.tags")
FIXED = {
    "prior-fitted": ("log.",),
    "bayesian-linear": FACTORS,
    "selector": tuple(f"member.0.{name}" for name in FACTORS),
}
"""Parameters that an algorithm counts and does not learn, by how their names begin."""
FIXED_OF_RATINGS = {
    "bayesian-linear": CONTENT,
    "selector": tuple(f"member.0.{name}" for name in CONTENT),
}
"""Those that it does not learn from ratings."""


class TestEveryAlgorithm(LearnerConformance):
    algorithm: str
    order_matters: bool
    fixed: tuple[str, ...]  # type: ignore[misc]
    training: TrainingConfig  # type: ignore[misc]

    @pytest.fixture(autouse=True, params=list(LEARNERS))
    def _choose(self, request: pytest.FixtureRequest) -> None:
        self.algorithm = request.param
        if self.objective not in config_class(self.algorithm).objectives:
            pytest.skip(f"{self.algorithm} does not learn from this feedback")
        self.order_matters = config_class(self.algorithm)().reads_in_order
        self.fixed = FIXED.get(self.algorithm, ())
        if self.objective == "rating":
            self.fixed += FIXED_OF_RATINGS.get(self.algorithm, ())
        if self.algorithm not in SLOW_TO_LEARN:
            self.training = dataclasses.replace(LearnerConformance.training, epochs=4)

    def make_model(self, task_set: TaskSet) -> Model:
        config = ModelConfig(network=SMALL, algorithm=self.algorithm)
        return Model.untrained(config, task_set, torch.device("cpu"))


class TestEveryAlgorithmOnImplicitFeedback(TestEveryAlgorithm):
    objective = "implicit"
