"""On a GPU: the lists of the CPU."""

import numpy as np
import pytest
import torch

from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.ranking import ScoringConfig, adapt_users, item_keys, parted, rank
from recmeta.tasks.task_set import TaskSet
from recmeta.training.choices.config import ChoiceConfig
from recmeta.training.lists.learn import learn_lists

GPU = torch.device("cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def on_gpu(model: Model) -> Model:
    return Model(
        model.config,
        model.params,
        model.encoder,
        model.catalogue.items,
        model.catalogue.statistics,
        model.objective,
        model.value_range,
        GPU,
    )


@pytest.mark.parametrize("item_block", [7, 1000])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_lists_are_those_of_the_cpu(
    model: Model, task_set: TaskSet, item_block: int, exclude_seen: bool
) -> None:
    """Up to rounding: where another item is in a place, its score is that of the CPU's item."""
    tasks = task_set.tasks("test")
    config = ScoringConfig(top_k=6, item_block=item_block, exclude_seen=exclude_seen, user_batch=4)
    expected = rank(Scorer.of(model), adapt_users(Scorer.of(model), tasks), config)
    other = on_gpu(model)
    found = rank(Scorer.of(other), adapt_users(Scorer.of(other), tasks), config)
    np.testing.assert_allclose(found.score_Bk, expected.score_Bk, rtol=1e-4, atol=1e-4)
    assert (found.item_Bk == expected.item_Bk).mean() > 0.98


def test_adapted_users_travel_between_devices(model: Model, task_set: TaskSet) -> None:
    tasks = task_set.tasks("test")
    users = adapt_users(Scorer.of(model), tasks)
    expected = rank(Scorer.of(model), users, ScoringConfig(top_k=4))
    found = rank(Scorer.of(on_gpu(model)), users.to(GPU), ScoringConfig(top_k=4))
    np.testing.assert_allclose(found.score_Bk, expected.score_Bk, rtol=1e-4, atol=1e-4)


def test_lists_are_learned_there(model: Model, task_set: TaskSet) -> None:
    """With what users take next, whose head is on the device from the start."""
    choices = ChoiceConfig(num_factors=4, epochs=1)
    expected = learn_lists(model, task_set, seed=0, choices=choices)
    found = learn_lists(on_gpu(model), task_set, seed=0, choices=choices)
    assert expected is not None
    assert found is not None
    assert found.head.count_I.device.type == "cuda"
    assert found.head.columns == expected.head.columns
    weight_KC = found.head.weight_KC.cpu()
    torch.testing.assert_close(weight_KC, expected.head.weight_KC, rtol=1e-2, atol=1e-2)


def test_keys_are_the_same_whole_numbers() -> None:
    score_BI = torch.randn((3, 500), generator=torch.Generator().manual_seed(0)).round(decimals=1)
    score_BI[0, :4] = torch.tensor([0.0, -0.0, float("inf"), float("-inf")])
    keys = item_keys(score_BI.to(GPU), 11)
    assert torch.equal(keys.cpu(), item_keys(score_BI, 11))
    scores, items = parted(keys.topk(40, dim=1).values)
    expected_scores, expected_items = parted(item_keys(score_BI, 11).topk(40, dim=1).values)
    assert torch.equal(scores.cpu(), expected_scores)
    assert torch.equal(items.cpu(), expected_items)
