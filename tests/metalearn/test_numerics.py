"""Lower precision is near, deterministic is the same bits, and both end where they began."""

from collections.abc import Iterator

import pytest
import torch
from learners import NETWORKS, make_batch, make_learner

from recmeta.errors import UserError
from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig
from recmeta.metalearn.learner import Params
from recmeta.metalearn.numerics.precision import deterministic, precision
from recmeta.metalearn.numerics.threads import on_threads
from recmeta.metalearn.outer_loop.trainer import TrainingConfig

CPU = torch.device("cpu")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def flat(gradients: Params) -> torch.Tensor:
    return torch.cat([g.flatten() for g in gradients.values()])


@pytest.mark.parametrize("network", ["linear", "both, not wide"])
def test_bfloat16_is_near_float32(network: str, two_threads: None) -> None:
    learner, params = make_learner(MAMLConfig(num_steps=2), NETWORKS[network])
    params = {name: p.float() for name, p in params.items()}
    batch = make_batch()
    expected, expected_metrics = learner.meta_gradient(params, batch, torch.Generator())
    with precision("bfloat16", CPU):
        found, metrics = learner.meta_gradient(params, batch, torch.Generator())
    assert metrics["loss"] == pytest.approx(expected_metrics["loss"], rel=0.02)
    assert metrics != expected_metrics
    assert {g.dtype for g in found.values()} == {torch.float32}
    assert torch.cosine_similarity(flat(found), flat(expected), 0) > 0.98
    with precision("float32", CPU):
        again, _ = learner.meta_gradient(params, batch, torch.Generator())
    assert torch.equal(flat(again), flat(expected))


def test_threads_compute_in_the_callers_precision(two_threads: None) -> None:
    def dtype(_: int) -> torch.dtype:
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype

    with precision("bfloat16", CPU):
        assert on_threads(dtype, range(4), CPU) == [torch.bfloat16] * 4
    assert on_threads(dtype, range(4), CPU) == [torch.float32] * 4


@pytest.mark.parametrize("network", ["linear", "both, not wide"])
def test_the_same_batch_twice_is_the_same_bits(network: str, two_threads: None) -> None:
    learner, params = make_learner(MAMLConfig(num_steps=2), NETWORKS[network])
    params = {name: p.float() for name, p in params.items()}
    with deterministic(True, CPU):
        assert torch.are_deterministic_algorithms_enabled()
        first, second = (
            learner.meta_gradient(params, make_batch(), torch.Generator()) for _ in range(2)
        )
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(flat(first[0]), flat(second[0]))
    assert first[1] == second[1]


def test_what_a_device_cannot_do_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="'tf32', which cpu does not have"), precision("tf32", CPU):
        pass
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with (
        pytest.raises(UserError, match="CUBLAS_WORKSPACE_CONFIG=:4096:8"),
        deterministic(True, torch.device("cuda")),
    ):
        pass


def test_the_plain_way_is_the_default() -> None:
    assert TrainingConfig().precision == "float32"
    assert not TrainingConfig().deterministic
