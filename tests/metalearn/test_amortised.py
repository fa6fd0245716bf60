"""Variants of the learners that adapt by a forward pass keep what every learner must keep.

With their defaults they are among `test_every_algorithm.py`.
"""

import torch

from recmeta.metalearn.algorithms.model_based.latent_np import LatentNPConfig
from recmeta.metalearn.algorithms.model_based.transformer_np import TransformerNPConfig
from recmeta.metalearn.learner_config import LearnerConfig
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.conformance import LearnerConformance


class TestTransformerOnMultipliedFactors(LearnerConformance):
    """Means instead of medians, hidden items, and a network that is no chain of linear layers."""

    algorithm = "transformer-np"
    learner: LearnerConfig = TransformerNPConfig(
        width=8, num_heads=1, estimate="mean", hidden_share=0.5
    )
    network = PreferenceConfig(embedding_dim=4, hidden_dims=(8,), layer_norm=True, num_factors=2)

    def make_model(self, task_set: TaskSet) -> Model:
        config = ModelConfig(network=self.network, algorithm=self.algorithm, learner=self.learner)
        return Model.untrained(config, task_set, torch.device("cpu"))


class TestLatentNPWithoutMemories(TestTransformerOnMultipliedFactors):
    algorithm = "latent-np"
    learner = LatentNPConfig(width=16, latent_dim=4, num_memories=0, num_layers=1, num_draws=0)
    network = PreferenceConfig(embedding_dim=4, hidden_dims=(), use_statistics=False)
