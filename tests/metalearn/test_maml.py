"""MAML keeps what every learner must keep."""

import torch

from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.outer_loop.trainer import TrainingConfig
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.conformance import LearnerConformance

SMALL = PreferenceConfig(embedding_dim=4, hidden_dims=(16, 8))


class TestMAML(LearnerConformance):
    learner = MAMLConfig(num_steps=2)
    network = SMALL

    def make_model(self, task_set: TaskSet) -> Model:
        config = ModelConfig(network=self.network, learner=self.learner)
        return Model.untrained(config, task_set, torch.device("cpu"))


class TestFirstOrderMAML(TestMAML):
    learner = MAMLConfig(num_steps=2, second_order=False, learn_rates=False)


class TestANIL(TestMAML):
    learner = MAMLConfig(adapt_layers="last", support_prior=0.0)


class TestLinearMAML(TestMAML):
    network = PreferenceConfig(embedding_dim=4, hidden_dims=())


class TestMedianOfMAML(TestMAML):
    learner = MAMLConfig(num_steps=2, estimate="median", hidden_share=0.5)


class TestImplicitMAML(TestMAML):
    objective = "implicit"
    training = TrainingConfig(epochs=6, learning_rate=1e-2)


class TestSoftmaxMAML(TestMAML):
    objective = "implicit"
    learner = MAMLConfig(inner_objective="softmax", outer_objective="softmax")
    training = TrainingConfig(epochs=6, learning_rate=1e-2)


class TestInteractingMAML(TestMAML):
    network = PreferenceConfig(embedding_dim=4, hidden_dims=(8,), layer_norm=True, num_factors=3)


class TestImplicitInteractingMAML(TestInteractingMAML):
    objective = "implicit"
    learner = MAMLConfig(inner_objective="softmax", outer_objective="softmax", second_order=False)
    training = TrainingConfig(epochs=6, learning_rate=1e-2)
