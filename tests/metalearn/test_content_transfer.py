"""A model starts from what another one, of other users and items, knows of content."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from recmeta.errors import UserError
from recmeta.metalearn.algorithms.closed_form.bayesian_linear import BayesianLinearConfig
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.outer_loop.trainer import TrainingConfig, train
from recmeta.metalearn.scorer import Scorer
from recmeta.metalearn.starts.bayesian_linear_start import start_from_factorisation
from recmeta.metalearn.starts.content_transfer import matched, start_from_content
from recmeta.metalearn.tensors.encoding import FeatureConfig
from recmeta.tasks.episodes import EpisodeConfig
from recmeta.tasks.item_files import write_items
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.workspace import Folder

CPU = torch.device("cpu")
NETWORK = PreferenceConfig(embedding_dim=4, hidden_dims=(5,), use_statistics=False)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> tuple[TaskSet, TaskSet]:
    """A source and a target whose items have two genres that the other lacks."""
    found = []
    for seed, shift in ((3, 0), (4, 2)):
        folder = Folder.at(tmp_path_factory.mktemp("tasks"))
        log = generate(SyntheticConfig(num_users=60, num_items=40, rows_per_user=(6, 12)), seed)
        task_set = write_task_set(log, folder)
        items = task_set.items()
        genre = pa.array([f"g{shift + row % 5}" for row in range(len(items.item))])
        attributes = pa.table({"genre": genre, "year": np.arange(40.0) * (1 + shift / 4)})
        write_items(folder, dataclasses.replace(items, attributes=attributes))
        found.append(TaskSet(folder))
    return found[0], found[1]


def untrained(task_set: TaskSet, config: ModelConfig, seed: int = 0) -> Model:
    model = Model.untrained(config, task_set, CPU)
    model.params = model.learner.init_params(torch.Generator().manual_seed(seed))
    return model


def pair(logs: tuple[TaskSet, TaskSet], config: ModelConfig) -> tuple[Model, Model]:
    """Return a source and a new model, with other parameters each."""
    return untrained(logs[0], config, 1), untrained(logs[1], config, 2)


def test_categories_are_matched_by_value_and_ids_never(logs: tuple[TaskSet, TaskSet]) -> None:
    source, model = pair(logs, ModelConfig(network=NETWORK))
    started = start_from_content(model, model.params, source)
    table, learned = started["embedding.item.genre"], source.params["embedding.item.genre"]
    ours = next(f for f in model.encoder.item_fields if f.name == "genre").values
    theirs = next(f for f in source.encoder.item_fields if f.name == "genre").values
    assert ours == ("g2", "g3", "g4", "g5", "g6")
    for place, value in enumerate(ours):
        row = learned[1 + theirs.index(value)] if value in theirs else None
        fresh = model.params["embedding.item.genre"][1 + place]
        assert torch.equal(table[1 + place], fresh if row is None else row)
    assert torch.equal(table[0], learned[0])
    name = "embedding.item.item_id"
    assert torch.equal(started[name], model.params[name])
    report = matched(model, source).report()
    assert report["item.genre"] == "3 of 5 values"
    assert report["item.item_id"] == "fresh: ids mean nothing elsewhere"


def test_an_item_of_known_content_is_read_as_the_source_reads_it(
    logs: tuple[TaskSet, TaskSet],
) -> None:
    """Content, users and layers come along; years are on another scale."""
    config = ModelConfig(network=NETWORK, features=FeatureConfig(use_item_id=False))
    source, model = pair(logs, config)
    model.params = start_from_content(model, model.params, source)
    tasks = logs[1].tasks("test").with_shots(0)
    known = [number for number in range(40) if 2 + number % 5 < 5]
    keep = np.isin(tasks.query.item, known)
    # An item's year is five years or so: in neither encoder is it cut off at five deviations.
    there = source.on(model.catalogue.items, model.catalogue.statistics)

    def output(asked: Model) -> np.ndarray:
        rows = asked.catalogue.rows(tasks.query, tasks)
        predicted = asked.learner.predict(asked.params, Scorer.of(asked).adapt(tasks), rows)
        return predicted.mean_BR[rows.mask_BR].detach().numpy()[keep]

    np.testing.assert_allclose(output(model), output(there), atol=2e-4)


def test_a_closed_form_begins_with_the_sources_content(logs: tuple[TaskSet, TaskSet]) -> None:
    """Kept as it is, it stays a turn of the source's tables: their distances tell."""
    config = ModelConfig(algorithm="bayesian-linear", learner=BayesianLinearConfig(num_factors=2))
    source, model = pair(logs, config)
    rows = logs[1].tasks("train").rows
    before = model.params
    kept = start_from_factorisation(model, before, rows, 0, source, keep=True)
    free = start_from_factorisation(model, before, rows, 0, source)
    alone = start_from_factorisation(model, before, rows, 0)
    name = "embedding.item.genre"
    assert not torch.allclose(kept[name], free[name], atol=1e-4)
    assert not torch.allclose(free[name], alone[name], atol=1e-4)
    learned_NC = source.params[name]
    # g2, g3, g4 are codes 1 to 3 here and 3 to 5 there; the turn is linear and the same for all.
    turn_CC = torch.linalg.lstsq(
        torch.cat([learned_NC[3:6], learned_NC[:1]]), torch.cat([kept[name][1:4], kept[name][:1]])
    ).solution
    torch.testing.assert_close(learned_NC[3:6] @ turn_CC, kept[name][1:4], atol=1e-4, rtol=1e-4)
    user = "embedding.user.group"
    assert user in kept
    assert not torch.equal(kept[user], before[user]) or not source.params[user].any()


def test_frozen_rows_stay_and_the_others_learn(logs: tuple[TaskSet, TaskSet]) -> None:
    source, model = pair(logs, ModelConfig(network=NETWORK))
    model.params = start_from_content(model, model.params, source)
    before = {name: p.clone() for name, p in model.params.items()}
    held = matched(model, source).held_rows(model.params)
    assert held["embedding.item.genre"].tolist() == [True, True, True, True, False, False]
    train(
        model,
        logs[1].tasks("train"),
        logs[1].tasks("dev"),
        episodes=EpisodeConfig(batch_size=16),
        config=TrainingConfig(epochs=2),
        seed=0,
        held=held,
    )
    for name, rows in held.items():
        assert torch.equal(model.params[name][rows], before[name][rows])
    genre = "embedding.item.genre"
    assert not torch.equal(model.params[genre][4:], before[genre][4:])


def test_what_cannot_be_carried_over_is_refused(
    logs: tuple[TaskSet, TaskSet], tmp_path: Path
) -> None:
    _, model = pair(logs, ModelConfig(network=NETWORK))
    ids_alone = FeatureConfig(user_features=(), item_features=())
    nothing = untrained(logs[0], ModelConfig(network=NETWORK, features=ids_alone))
    with pytest.raises(UserError, match=r"knows nothing of this data set's content.*item\.genre"):
        start_from_content(model, model.params, nothing)
    wider = dataclasses.replace(NETWORK, embedding_dim=6)
    with pytest.raises(UserError, match=r"width 6, and the new one's has 4.*embedding_dim"):
        start_from_content(model, model.params, untrained(logs[0], ModelConfig(network=wider)))
    deeper = dataclasses.replace(NETWORK, hidden_dims=(5, 5))
    with pytest.raises(UserError, match=r"hidden_dims \(5, 5\), and the new one has \(5,\)"):
        start_from_content(model, model.params, untrained(logs[0], ModelConfig(network=deeper)))
    closed = untrained(logs[1], ModelConfig(algorithm="bayesian-linear"))
    rows = logs[1].tasks("train").rows
    with pytest.raises(UserError, match="'maml', and 'bayesian-linear' starts from one of its own"):
        start_from_factorisation(closed, closed.params, rows, 0, model)
