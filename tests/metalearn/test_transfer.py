"""Transfer trains on all rows at once, and adapts as MAML does."""

import numpy as np
import pytest
import torch

from recmeta.metalearn.algorithms.optimisation_based.maml import MAML
from recmeta.metalearn.algorithms.optimisation_based.transfer_fine_tuned import (
    FineTunedConfig,
    Transfer,
)
from recmeta.metalearn.algorithms.optimisation_based.transfer_frozen import FrozenConfig
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.networks.row_features import RowFeatures
from recmeta.metalearn.tensors.batch import joined
from recmeta.tasks.task_set import TaskSet

NETWORK = PreferenceConfig(embedding_dim=3, hidden_dims=(5,))


@pytest.mark.parametrize(
    ("algorithm", "config"),
    [("transfer-frozen", FrozenConfig()), ("transfer-fine-tuned", FineTunedConfig(num_steps=7))],
)
def test_the_gradient_is_that_of_plain_training_on_all_rows(
    task_set: TaskSet, algorithm: str, config: FineTunedConfig
) -> None:
    chosen = ModelConfig(algorithm=algorithm, network=NETWORK, learner=config)
    model = Model.untrained(chosen, task_set, torch.device("cpu"))
    learner = model.learner
    assert isinstance(learner, Transfer)
    params = {
        name: p.double()
        for name, p in learner.init_params(torch.Generator().manual_seed(0)).items()
    }
    batch = model.batch(task_set.tasks("train").take(np.arange(6)))
    gradients, metrics = learner.meta_gradient(params, batch, torch.Generator())
    features = RowFeatures(model.network, model.catalogue.features)
    rows = joined(batch.support.rows, batch.query)
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    user_BF = features.users(leaves, batch.support.user, len(batch))
    output_BR = features.output(leaves, features.of(leaves, user_BF, rows), rows)
    error_BR = (output_BR - rows.value_BR).abs() * rows.mask_BR
    loss = (error_BR.sum(1) / rows.mask_BR.sum(1)).mean()
    assert metrics["loss"] == pytest.approx(loss.item())
    expected = torch.autograd.grad(loss, list(leaves.values()))
    for name, wanted in zip(leaves, expected, strict=True):
        torch.testing.assert_close(gradients[name], wanted, msg=name)


def test_adapting_is_mamls(task_set: TaskSet) -> None:
    config = ModelConfig(algorithm="transfer-frozen", network=NETWORK)
    model = Model.untrained(config, task_set, torch.device("cpu"))
    transfer = model.learner
    assert isinstance(transfer, Transfer)
    maml = MAML(
        transfer.config, transfer.network, transfer.item_features, "rating", transfer.value_range
    )
    params = transfer.init_params(torch.Generator().manual_seed(0))
    batch = model.batch(task_set.tasks("train").take(np.arange(6)))
    mine = transfer.predict(params, transfer.adapt(params, batch.support), batch.query).mean_BR
    his = maml.predict(params, maml.adapt(params, batch.support), batch.query).mean_BR
    assert torch.equal(mine, his)


def test_rates_cannot_be_learned() -> None:
    with pytest.raises(ValueError, match="learn_rates is True"):
        FrozenConfig(learn_rates=True)
