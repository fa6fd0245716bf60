"""Networks on implicit feedback begin with a factorisation's vectors.

Legend: I items, F factors.
"""

import numpy as np
import pytest
import torch

from recmeta.metalearn.factors.weighted_als import WeightedALSConfig, factorise_weighted
from recmeta.metalearn.learner import Params
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.starts.implicit_start import start_from_weighted_factors
from recmeta.metalearn.starts.pretraining import known_items
from recmeta.metalearn.tensors.encoding import FeatureConfig
from recmeta.tasks.task_set import Ragged, TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.workspace import Folder

ALS = WeightedALSConfig(num_factors=6, regularisation=2.0, confidence=5.0, sweeps=4)
NAME = "embedding.item.item_id"


@pytest.fixture(scope="module")
def task_set(tmp_path_factory: pytest.TempPathFactory) -> TaskSet:
    log = generate(SyntheticConfig(num_users=200, num_items=60, objective="implicit"), seed=1)
    return write_task_set(log, Folder.at(tmp_path_factory.mktemp("tasks")))


@pytest.fixture(scope="module")
def rows(task_set: TaskSet) -> Ragged:
    train = task_set.tasks("train")
    return train.rows


def untrained(
    task_set: TaskSet, features: FeatureConfig, network: PreferenceConfig
) -> tuple[Model, Params]:
    config = ModelConfig(features=features, network=network)
    model = Model.untrained(config, task_set, torch.device("cpu"))
    return model, model.learner.init_params(torch.Generator().manual_seed(0))


@pytest.mark.parametrize("width", [5, 16])
def test_embeddings_span_what_the_factorisation_found(
    task_set: TaskSet, rows: Ragged, width: int
) -> None:
    """With room for all factors, the embeddings' differences from item to item say the same."""
    network = PreferenceConfig(embedding_dim=width)
    model, params = untrained(task_set, FeatureConfig(), network)
    item_IF = factorise_weighted(rows, model.catalogue.num_items, ALS, 0)
    table = start_from_weighted_factors(model, params, rows, item_IF)[NAME]
    item = known_items(model)
    assert item is not None
    is_met = torch.from_numpy(np.bincount(rows.item, minlength=len(item_IF)))[item] > 0
    met = table[1:][is_met]
    room = min(6, width - 1)
    torch.testing.assert_close(met[:, : 1 + room].square().mean(0), torch.ones(1 + room))
    found, wanted = met[:, 1 : 1 + room], item_IF[item][is_met]
    rebuilt = found @ torch.linalg.lstsq(found, wanted).solution
    _, s, _ = torch.linalg.svd(wanted)
    lost = (rebuilt - wanted).square().sum()
    torch.testing.assert_close(lost, s[room:].square().sum(), rtol=1e-4, atol=1e-6)
    assert not table[0].any()
    assert not table[1:][~is_met][:, : 1 + room].any()


def test_the_untrained_network_adds_popularity(task_set: TaskSet, rows: Ragged) -> None:
    model, params = untrained(task_set, FeatureConfig(), PreferenceConfig())
    item_IF = factorise_weighted(rows, model.catalogue.num_items, ALS, 0)
    started = start_from_weighted_factors(model, params, rows, item_IF)
    item = known_items(model)
    assert item is not None
    count = np.bincount(rows.item, minlength=len(item_IF))[item.numpy()]
    popularity = started[NAME][1:, 0].numpy()
    assert (np.diff(popularity[np.argsort(count, kind="stable")]) >= -1e-6).all()
    column = model.network.wide_column("item_id")
    assert column is not None
    assert started["layer.2.weight"][0, column] == 1.0


def test_a_network_without_items_of_their_own_starts_as_ever(
    task_set: TaskSet, rows: Ragged
) -> None:
    model, params = untrained(task_set, FeatureConfig(use_item_id=False), PreferenceConfig())
    item_IF = factorise_weighted(rows, model.catalogue.num_items, ALS, 0)
    assert start_from_weighted_factors(model, params, rows, item_IF) is params
