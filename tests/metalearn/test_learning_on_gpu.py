"""On a GPU: the numbers of the CPU, the same bits twice, any batch within its memory.

These need PyTorch, numpy, PyArrow, safetensors, pytest and hypothesis, and nothing else.
"""

import dataclasses
import os
from collections.abc import Callable

import pytest
import torch
from learners import CONFIGS, NETWORKS, make_batch, make_learner
from maml_tasks import make_rows

from recmeta.metalearn.algorithms.optimisation_based.maml import MAML, MAMLConfig
from recmeta.metalearn.learner import Params
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.networks.estimators.preference import PreferenceNetwork
from recmeta.metalearn.numerics import sparse_gradients
from recmeta.metalearn.numerics.precision import Precision, deterministic, precision
from recmeta.metalearn.outer_loop.prefetch import prefetched
from recmeta.metalearn.outer_loop.trainer import TrainingConfig, train
from recmeta.metalearn.tensors.batch import Rows, Support, TaskBatch
from recmeta.metalearn.tensors.encoding import Field
from recmeta.tasks.episodes import EpisodeConfig
from recmeta.tasks.task_set import TaskSet

GPU = torch.device("cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before cuBLAS starts


def on_gpu(learner: MAML) -> MAML:
    features = {name: t.to(GPU) for name, t in learner.item_features.items()}
    return MAML(learner.config, learner.network, features, "rating")


def moved(batch: TaskBatch) -> TaskBatch:
    def rows(side: Rows) -> Rows:
        return Rows(*(t.to(GPU) for t in vars(side).values()))

    user = {name: t.to(GPU) for name, t in batch.support.user.items()}
    return TaskBatch(Support(user, rows(batch.support.rows)), rows(batch.query))


def to_gpu(params: Params) -> Params:
    return {name: p.to(GPU) for name, p in params.items()}


def flat(gradients: Params) -> torch.Tensor:
    return torch.cat([g.to_dense().flatten().cpu() for g in gradients.values()])


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_and_predictions_are_those_of_the_cpu(network: str, config: str) -> None:
    learner, params = make_learner(CONFIGS[config], NETWORKS[network])
    batch = make_batch()
    other, other_params, other_batch = on_gpu(learner), to_gpu(params), moved(batch)
    expected, expected_metrics = learner.meta_gradient(params, batch, torch.Generator())
    found, metrics = other.meta_gradient(other_params, other_batch, torch.Generator())
    assert metrics["loss"] == pytest.approx(expected_metrics["loss"], rel=1e-9)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient.cpu(), expected[name], rtol=1e-8, atol=1e-9, msg=name)
    with torch.no_grad():
        state = other.adapt(other_params, other_batch.support)
        predicted = other.predict(other_params, state, other_batch.query).mean_BR
        state = learner.adapt(params, batch.support)
        torch.testing.assert_close(
            predicted.cpu(),
            learner.predict(params, state, batch.query).mean_BR,
            rtol=1e-9,
            atol=1e-9,
        )


@pytest.mark.parametrize("network", ["linear", "both, not wide"])
def test_the_same_batch_twice_is_the_same_bits(network: str) -> None:
    learner, params = make_learner(MAMLConfig(num_steps=2), NETWORKS[network])
    learner, batch = on_gpu(learner), moved(make_batch())
    params = {name: p.float() for name, p in to_gpu(params).items()}
    with deterministic(True, GPU):
        first, second = (learner.meta_gradient(params, batch, torch.Generator()) for _ in range(2))
    assert torch.equal(flat(first[0]), flat(second[0]))
    assert first[1] == second[1]


@pytest.mark.parametrize(("name", "tolerance"), [("tf32", 0.02), ("bfloat16", 0.2)])
def test_lower_precision_is_near(name: Precision, tolerance: float) -> None:
    learner, params = make_learner(MAMLConfig(num_steps=2), NETWORKS["linear"])
    learner, batch = on_gpu(learner), moved(make_batch())
    params = {name: p.float() for name, p in to_gpu(params).items()}
    exact, _ = learner.meta_gradient(params, batch, torch.Generator())
    with precision(name, GPU):
        found, _ = learner.meta_gradient(params, batch, torch.Generator())
    assert (flat(found) - flat(exact)).norm() < tolerance * flat(exact).norm()


@pytest.mark.parametrize("large_from", [50_000, 2])
def test_training_goes_as_on_the_cpu(
    task_set: TaskSet, monkeypatch: pytest.MonkeyPatch, large_from: int
) -> None:
    monkeypatch.setattr(sparse_gradients, "LARGE_FROM", large_from)
    network = PreferenceConfig(embedding_dim=3, hidden_dims=(6,))
    histories = []
    for device in (torch.device("cpu"), GPU):
        model = Model.untrained(ModelConfig(network=network), task_set, device)
        histories.append(
            train(
                model,
                task_set.tasks("train"),
                task_set.tasks("dev"),
                episodes=EpisodeConfig(batch_size=8),
                config=TrainingConfig(epochs=3, learning_rate=1e-2),
                seed=4,
            )
        )
    for expected, found in zip(*histories, strict=True):
        assert found.train_loss == pytest.approx(expected.train_loss, rel=1e-3)
        assert found.dev_loss == pytest.approx(expected.dev_loss, rel=1e-3)


def test_batches_built_ahead_are_those_built_when_asked_for(task_set: TaskSet) -> None:
    model = Model.untrained(ModelConfig(), task_set, GPU)
    draws = list(task_set.tasks("train").batches(5))
    build: Callable = model.batch
    for draw, batch in zip(draws, prefetched(iter(draws), build, GPU), strict=True):
        for found, expected in zip(batch.tensors(), build(draw).tensors(), strict=True):
            assert found.device.type == "cuda"
            assert torch.equal(found, expected)


NUM_ITEMS, EMBEDDINGS = 4_000, 8_000


def test_a_hundred_thousand_users_fit_in_one_batch() -> None:
    """In MeLU's shape: eight embeddings of 32, layers of 64 and 64; 30 support rows, 10 queries."""
    num_users = 100_000
    generator = torch.Generator().manual_seed(0)
    fields = tuple(Field(f"f{n}", "categorical", ("",) * (EMBEDDINGS - 1)) for n in range(4))
    network = PreferenceNetwork(PreferenceConfig(wide=False), fields, fields, graded=True)

    def codes(size: int) -> dict[str, torch.Tensor]:
        draw = (EMBEDDINGS, (size,))
        return {f.name: torch.randint(*draw, generator=generator).to(GPU) for f in fields}

    learner = MAML(MAMLConfig(num_steps=1), network, codes(NUM_ITEMS), "rating")
    params = to_gpu(learner.init_params(generator))

    def rows(length: int) -> Rows:
        made = make_rows((length,) * num_users, True, generator)
        item_BR = torch.randint(NUM_ITEMS, made.item_BR.shape, generator=generator)
        return dataclasses.replace(made, item_BR=item_BR)

    batch = moved(TaskBatch(Support(codes(num_users), rows(30)), rows(10)))
    torch.cuda.reset_peak_memory_stats()
    whole, metrics = learner.meta_gradient(params, batch, generator)
    peak = torch.cuda.max_memory_allocated()
    assert peak < torch.cuda.get_device_properties(GPU).total_memory
    gradients, losses = [], []
    for part in (slice(0, num_users // 2), slice(num_users // 2, num_users)):
        user = {name: t[part] for name, t in batch.support.user.items()}
        support, query = (
            Rows(*(t[part] for t in vars(side).values()))
            for side in (batch.support.rows, batch.query)
        )
        half = TaskBatch(Support(user, support), query)
        found, found_metrics = learner.meta_gradient(params, half, generator)
        gradients.append(flat(found))
        losses.append(found_metrics["loss"])
    mean = torch.stack(gradients).mean(0)
    assert (mean - flat(whole)).norm() < 1e-3 * mean.norm()
    assert metrics["loss"] == pytest.approx(sum(losses) / 2, rel=1e-4)
