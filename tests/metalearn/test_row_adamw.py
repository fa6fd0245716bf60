"""Row by row it is AdamW, no decay is lost, and a step costs what it touches."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maml_tasks import ITEM_FIELDS, USER_FIELDS, item_features, make_batch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from recmeta.metalearn.algorithms.optimisation_based.maml import MAML, MAMLConfig
from recmeta.metalearn.learner import Params
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.networks.estimators.preference import PreferenceNetwork
from recmeta.metalearn.numerics import sparse_gradients
from recmeta.metalearn.numerics.sparse_gradients import no_gradient, touched
from recmeta.metalearn.outer_loop.optimiser import OuterOptimiser
from recmeta.metalearn.outer_loop.row_adamw import RowAdamW
from recmeta.metalearn.tensors.encoding import Field

RATE, DECAY = 0.05, 0.7


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def dense(start: torch.Tensor) -> tuple[torch.Tensor, torch.optim.AdamW]:
    table = start.clone()
    return table, torch.optim.AdamW([table], lr=RATE, weight_decay=DECAY)


def test_where_every_row_is_touched_it_is_dense_adamw() -> None:
    start = draw(7, 3)
    expected, adamw = dense(start)
    table = start.clone()
    rows = RowAdamW(table, learning_rate=RATE, weight_decay=DECAY)
    for step in range(20):
        gradient = draw(7, 3, seed=step + 1)
        expected.grad = gradient.clone()
        adamw.step()
        order = torch.randperm(7, generator=torch.Generator().manual_seed(step))
        rows.step(order, gradient[order])
    torch.testing.assert_close(table, expected, rtol=1e-12, atol=1e-12)
    rows.settle()  # nothing was missed
    torch.testing.assert_close(table, expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=30)
@given(st.lists(st.sets(st.integers(0, 3)), min_size=1, max_size=12), st.sets(st.integers(0, 11)))
def test_each_row_is_adamw_of_its_own_steps_and_decays_in_all(
    steps: list[set[int]], settled_after: set[int]
) -> None:
    start = draw(4, 2)
    table = start.clone()
    rows = RowAdamW(table, learning_rate=RATE, weight_decay=DECAY)
    gradients = draw(len(steps), 4, 2, seed=1)
    for number, touched_rows in enumerate(steps):
        index = torch.tensor(sorted(touched_rows), dtype=torch.int64)
        rows.step(index, gradients[number, index])
        if number in settled_after:
            rows.settle()
    rows.settle()
    for row in range(4):
        expected, adamw = dense(start[row])
        for number, touched_rows in enumerate(steps):
            if row in touched_rows:
                expected.grad = gradients[number, row].clone()
                adamw.step()
            else:
                expected *= 1 - RATE * DECAY
        torch.testing.assert_close(table[row], expected, rtol=1e-12, atol=1e-12)


def test_dense_parameters_move_as_by_pytorchs_class() -> None:
    """Bit by bit, and also one that has no gradient in some steps."""
    start = {"weight": draw(3, 4, seed=2).float(), "bias": draw(4, seed=3).float()}
    params, expected = ({n: p.clone() for n, p in start.items()} for _ in range(2))
    ours = OuterOptimiser(params, learning_rate=RATE, weight_decay=DECAY, clip_norm=1e9)
    theirs = torch.optim.AdamW(list(expected.values()), lr=RATE, weight_decay=DECAY, fused=True)
    for step in range(5):
        gradients = {n: draw(*p.shape, seed=step).float() for n, p in start.items()}
        if step % 2:
            del gradients["bias"]
        for name, p in expected.items():
            p.grad = gradients[name].clone() if name in gradients else None
        ours.step(gradients)
        theirs.step()
        assert all(torch.equal(params[name], expected[name]) for name in params)


def test_the_rows_of_gradients() -> None:
    index = torch.tensor([[4, 1, 4]])
    values = torch.tensor([[1.0], [2.0], [3.0]])
    sparse = torch.sparse_coo_tensor(index, values, (6, 1), check_invariants=True)
    row_N, values_NE = touched(sparse)
    assert row_N.tolist() == [1, 4]
    assert values_NE.tolist() == [[2.0], [4.0]]
    row_N, values_NE = touched(torch.ones(3, 2))
    assert row_N.tolist() == [0, 1, 2]
    assert values_NE.shape == (3, 2)


@pytest.fixture
def every_table_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_gradients, "LARGE_FROM", 2)


def test_a_table_that_nothing_read_has_no_row(every_table_is_large: None) -> None:
    row_N, values_NE = touched(no_gradient(torch.ones(5, 3)))
    assert row_N.shape == (0,)
    assert values_NE.shape == (0, 3)


NETWORK = PreferenceConfig(embedding_dim=3, hidden_dims=(6,))


def make_learner(num_items: int | None = None) -> tuple[MAML, Params]:
    """Return a learner, with as many embeddings of items as told."""
    fields = ITEM_FIELDS
    if num_items is not None:
        fields = (*fields[:-1], Field("item_id", "categorical", ("",) * num_items))
    network = PreferenceNetwork(NETWORK, USER_FIELDS, fields, graded=True)
    features = item_features(torch.Generator().manual_seed(0))
    learner = MAML(MAMLConfig(num_steps=2), network, features, "rating")
    return learner, learner.init_params(torch.Generator().manual_seed(1))


def test_sparse_gradients_are_the_dense_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, params = make_learner()
    batch = make_batch(graded=True)
    expected, _ = learner.meta_gradient(params, batch, torch.Generator())
    monkeypatch.setattr(sparse_gradients, "LARGE_FROM", 2)
    found, _ = learner.meta_gradient(params, batch, torch.Generator())
    assert {name for name, g in found.items() if g.is_sparse} == {
        name for name in params if name.startswith("embedding.")
    }
    for name, gradient in found.items():
        torch.testing.assert_close(gradient.to_dense(), expected[name], rtol=1e-6, atol=1e-7)


def test_clipping_is_by_the_norm_of_dense_and_sparse(every_table_is_large: None) -> None:
    params = {"embedding.item.x": draw(3, 2), "layer.0.bias": draw(1)}
    before = {name: p.clone() for name, p in params.items()}
    optimiser = OuterOptimiser(params, learning_rate=RATE, weight_decay=0.0, clip_norm=0.5)
    twice = torch.ones((2, 2), dtype=torch.float64)
    sparse = torch.sparse_coo_tensor([[2, 2]], twice, (3, 2), check_invariants=True)
    length = optimiser.step(
        {"embedding.item.x": sparse, "layer.0.bias": torch.tensor([1.0]).double()}
    )
    assert length == pytest.approx(3.0)  # of (2, 2, 1)
    state = dict(optimiser.state())
    share = 0.5 / 3
    first = state["exp_avg.embedding.item.x"]
    torch.testing.assert_close(
        first[2], torch.full((2,), 0.1 * 2 * share).double(), rtol=1e-5, atol=0
    )
    assert not first[:2].any()
    assert torch.equal(params["embedding.item.x"][:2], before["embedding.item.x"][:2])
    changed = {name: p.clone() for name, p in params.items()}
    assert optimiser.step({name: p * torch.nan for name, p in params.items()}) != 0.0
    for name, p in params.items():
        assert torch.equal(p, changed[name]), name


class Meets(TorchDispatchMode):
    """Notes the operations that are given or return a dense tensor as long as a table."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        self.operations: set[str] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, result)):
            is_dense = isinstance(leaf, torch.Tensor) and not leaf.is_sparse and leaf.dim() > 0
            if is_dense and len(leaf) >= self.length:
                self.operations.add(func.overloadpacket.__name__)
        return result


ROW_OPERATIONS = {"embedding", "index_select", "index_copy_", "index_fill_", "detach"}
"""They cost the rows that they are asked for, and `detach` nothing."""


def test_a_step_costs_the_rows_that_it_touches() -> None:
    learner, params = make_learner(num_items=100_000)
    optimiser = OuterOptimiser(params, learning_rate=1e-3, weight_decay=1.0, clip_norm=1.0)
    batch = make_batch(graded=True)
    with Meets(100_000) as met:
        gradients, _ = learner.meta_gradient(params, batch, torch.Generator())
        optimiser.step(gradients)
    assert "index_copy_" in met.operations
    assert met.operations <= ROW_OPERATIONS
    with Meets(100_000) as met:
        optimiser.settle()
    assert "mul_" in met.operations  # once an epoch, not once a step
