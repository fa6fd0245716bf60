import dataclasses

import torch

from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.tensors.encoding import FeatureConfig
from recmeta.registry.models.features import features_read
from recmeta.tasks.task_set import TaskSet


def untrained(task_set: TaskSet, config: ModelConfig) -> Model:
    return Model.untrained(config, task_set, torch.device("cpu"))


def test_features_are_those_of_the_encoder(task_set: TaskSet) -> None:
    found = features_read(untrained(task_set, ModelConfig()))
    assert found.service == "melu_v1"
    assert found.features == (
        "user_profile:occupation",
        "user_profile:age",
        "user_profile:languages",
        "item_profile:genres",
        "item_profile:year",
    )  # neither the title, which is free text, nor the item's own embedding
    assert found.with_model == ("item_statistics:num_users", "item_statistics:sum_values")


def test_digest_tells_what_is_read(task_set: TaskSet) -> None:
    config = ModelConfig()
    same = dataclasses.replace(config, features=FeatureConfig(use_item_id=False))
    fewer = dataclasses.replace(config, features=FeatureConfig(user_features=("age",)))
    past = dataclasses.replace(config, network=PreferenceConfig(use_statistics=False))
    first, again, second, third = (
        features_read(untrained(task_set, c)) for c in (config, same, fewer, past)
    )
    assert again == first
    assert len({first.digest, second.digest, third.digest}) == 3
    assert "user_profile:occupation" not in second.features
    assert third.with_model == ()
