"""SNAIL against its definition, position by position, and what its order means."""

import dataclasses

import numpy as np
import pytest
import torch
from amortised_tasks import LENGTHS, known_rows, make, only
from toy_tasks import changes_of_mind

from recmeta.metalearn.algorithms.model_based.snail import SNAIL, SNAILConfig
from recmeta.metalearn.learner import Params
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.outer_loop.trainer import TrainingConfig, train
from recmeta.metalearn.scorer import Scorer
from recmeta.metalearn.tensors.encoding import FeatureConfig
from recmeta.tasks.episodes import EpisodeConfig
from recmeta.tasks.task_set import Ragged, Tasks, TaskSet
from recmeta.workspace import Folder

CONFIG = SNAILConfig(width=4, num_dilations=3, num_blocks=2)


def by_definition(learner: SNAIL, params: Params, row_TC: torch.Tensor) -> torch.Tensor:
    """Return the rows of one sequence after all layers, by loops over its positions."""

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return params[f"{name}.weight"] @ x + params[f"{name}.bias"]

    rows = list(row_TC)
    for index, dilation in enumerate(learner.layers):
        name = f"sequence.{index}"
        added = []
        for t, row in enumerate(rows):
            if dilation is not None:
                before = rows[t - dilation] if t >= dilation else torch.zeros_like(row)
                both = torch.cat([before, row])
                gate = linear(f"{name}.gate", both).sigmoid()
                added.append(linear(f"{name}.filter", both).tanh() * gate)
                continue
            query = linear(f"{name}.query", row)
            keys = torch.stack([linear(f"{name}.key", r) for r in rows[: t + 1]])
            values = torch.stack([linear(f"{name}.value", r) for r in rows[: t + 1]])
            added.append((keys @ query / len(query) ** 0.5).softmax(0) @ values)
        rows = [torch.cat([row, new]) for row, new in zip(rows, added, strict=True)]
    return torch.stack(rows)


@pytest.mark.parametrize("user", range(len(LENGTHS)))
def test_a_target_is_the_next_row_of_the_sequence(user: int) -> None:
    learner, params = make(CONFIG)
    assert isinstance(learner, SNAIL)
    known = known_rows(learner)
    asked = known_rows(learner, (3,) * len(LENGTHS))
    shift_BR, log_spread_BR = learner.decode(params, learner.read(params, known), asked)

    mine = only(known, user)
    told_S2 = torch.stack([mine.surprise_BR[0], torch.ones_like(mine.surprise_BR[0])], -1)
    history_SC = torch.cat([mine.token_BRH[0], told_S2], -1)
    for r in range(3):
        target_C = torch.cat([asked.token_BRH[user, r], torch.zeros(2, dtype=torch.float64)])
        after_TC = by_definition(learner, params, torch.cat([history_SC, target_C[None]]))
        out_2 = params["head.weight"] @ after_TC[-1] + params["head.bias"]
        torch.testing.assert_close(torch.stack([shift_BR[user, r], log_spread_BR[user, r]]), out_2)


def test_the_same_rows_in_another_order_are_another_history() -> None:
    learner, params = make(CONFIG)
    known = only(known_rows(learner), 4)
    asked = known_rows(learner, (3,))
    back = dataclasses.replace(
        known, token_BRH=known.token_BRH.flip(1), surprise_BR=known.surprise_BR.flip(1)
    )
    forth_BR, back_BR = (
        learner.decode(params, learner.read(params, rows), asked)[0] for rows in (known, back)
    )
    assert not torch.allclose(forth_BR, back_BR, atol=1e-3)


def test_a_shape_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="num_blocks"):
        SNAILConfig(num_blocks=0)


@pytest.fixture(scope="module")
def changes(tmp_path_factory: pytest.TempPathFactory) -> TaskSet:
    return changes_of_mind(Folder.at(tmp_path_factory.mktemp("changes")))


def error(model: Model, tasks: Tasks) -> float:
    return float(np.abs(Scorer.of(model).score_query(tasks) - tasks.query.value).mean())


def reversed_support(tasks: Tasks) -> Tasks:
    rows = tasks.support
    order = np.lexsort((-rows.position, rows.task))
    back = Ragged(rows.offsets, rows.item[order], rows.value[order], rows.counted[order])
    return dataclasses.replace(tasks, support=back)


@pytest.mark.parametrize("in_order", [True, False])
def test_training_in_order_teaches_what_order_says(changes: TaskSet, in_order: bool) -> None:
    """Users change their minds; only order tells which of their ratings are the later ones."""
    model = Model.untrained(
        ModelConfig(
            algorithm="snail",
            learner=SNAILConfig(width=8, num_dilations=2),
            network=PreferenceConfig(embedding_dim=4, hidden_dims=(8,), use_statistics=False),
            features=FeatureConfig(use_item_id=False),
        ),
        changes,
        torch.device("cpu"),
    )
    train(
        model,
        changes.tasks("train"),
        changes.tasks("dev"),
        episodes=EpisodeConfig(batch_size=16, max_support=10),
        config=TrainingConfig(epochs=12, learning_rate=1e-2, weight_decay=0.0),
        seed=0,
        in_order=in_order,
    )
    tasks = changes.tasks("test")
    if in_order:
        assert error(model, tasks) < 0.1  # the values are 1 and -1
        assert error(model, reversed_support(tasks)) > 1.5
    else:
        assert error(model, tasks) > 0.7
