"""The learned optimiser, coordinate by coordinate."""

import math

import numpy as np
import pytest
import torch

from recmeta.metalearn.algorithms.optimisation_based.meta_lstm import MetaLSTM, MetaLSTMConfig
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.tasks.task_set import TaskSet

NETWORK = PreferenceConfig(embedding_dim=2, hidden_dims=(3,))


def told(x: float) -> list[float]:
    if abs(x) >= math.exp(-10):
        return [math.log(abs(x)) / 10, math.copysign(1.0, x)]
    return [-1.0, x * math.exp(10)]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_steps_are_the_papers_equations(task_set: TaskSet) -> None:
    config = MetaLSTMConfig(num_steps=3, support_prior=0.0)
    chosen = ModelConfig(algorithm="meta-lstm", network=NETWORK, learner=config)
    model = Model.untrained(chosen, task_set, torch.device("cpu"))
    learner = model.learner
    assert isinstance(learner, MetaLSTM)
    generator = torch.Generator().manual_seed(1)
    params = {
        name: p.double() + 0.2 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for name, p in learner.init_params(generator).items()
    }
    batch = model.batch(task_set.tasks("train").take(np.arange(3)))
    state = learner.adapt(params, batch.support)
    user_BF = learner.features.users(params, batch.support.user, 3)
    x_BSH = learner.features.of(params, user_BF, batch.support.rows)
    for user in range(3):
        kept = batch.support.rows.mask_BR[user]
        x_SN = torch.cat([x_BSH[user, kept], torch.ones(int(kept.sum()), 1)], 1)
        y_S = batch.support.rows.value_BR[user, kept].double()
        own = [*params["layer.1.weight"][0].tolist(), float(params["layer.1.bias"])]
        forget, take = [0.999] * len(own), [0.05] * len(own)
        for _ in range(3):
            error_S = x_SN @ torch.tensor(own, dtype=torch.float64) - y_S
            loss = float(error_S.square().mean())
            slope = (2 * x_SN.T @ error_S / len(y_S)).tolist()
            for n in range(len(own)):
                common = [*told(slope[n]), *told(loss), own[n]]
                gates = []
                for name, last in (("lstm.forget", forget[n]), ("lstm.input", take[n])):
                    weights = params[f"{name}.weight"][0].tolist()
                    total = sum(w * v for w, v in zip(weights, [*common, last], strict=True))
                    gates.append(sigmoid(total + float(params[f"{name}.bias"])))
                forget[n], take[n] = gates
                own[n] = forget[n] * own[n] - take[n] * slope[n]
        found = state["own"][user]
        torch.testing.assert_close(found, torch.tensor(own, dtype=torch.float64))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="num_steps is 0"):
        MetaLSTMConfig(num_steps=0)
