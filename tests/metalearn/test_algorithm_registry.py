"""Algorithms are found by name, and their hyperparameters are read strictly."""

import dataclasses
from typing import Any

import pytest
import torch
from learners import ITEM_FIELDS, USER_FIELDS

from recmeta.config import parse, to_dict
from recmeta.errors import UserError
from recmeta.metalearn.algorithms.closed_form.bayesian_linear import BayesianLinearConfig
from recmeta.metalearn.algorithms.optimisation_based.anil import ANILConfig
from recmeta.metalearn.algorithms.optimisation_based.fomaml import FOMAMLConfig
from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig
from recmeta.metalearn.learner_config import LearnerConfig
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.networks.registry import NETWORKS, network_of
from recmeta.metalearn.registry import LEARNERS, config_class
from recmeta.tasks.task_set import TaskSet


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_every_algorithm_has_hyperparameters_that_survive_json(algorithm: str) -> None:
    config = ModelConfig(algorithm=algorithm)
    assert type(config.learner) is config_class(algorithm)
    assert issubclass(config_class(algorithm), LearnerConfig)
    assert parse(ModelConfig, to_dict(config)) == config
    assert parse(ModelConfig, {"algorithm": algorithm}) == config


def test_each_has_a_class_of_its_own() -> None:
    """Else a configuration would not tell which algorithm it is of."""
    classes = [config_class(name) for name in LEARNERS]
    assert len(set(classes)) == len(classes)


def test_some_values_are_laid_over_the_defaults_of_the_algorithm_that_is_named() -> None:
    data = {"algorithm": "fomaml", "learner": {"num_steps": 7}}
    assert parse(ModelConfig, data).learner == FOMAMLConfig(num_steps=7)
    assert parse(ModelConfig, {"learner": {"num_steps": 7}}).learner == MAMLConfig(num_steps=7)
    assert not FOMAMLConfig().second_order
    assert ANILConfig().adapt_layers == "last"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"algorithm": "mamel"}, "no learner 'mamel'. Did you mean 'maml'"),
        ({"algorithm": 3}, "algorithm is 3"),
        ({"learner": {"num_step": 3}}, "unknown key 'model.learner.num_step'. Did you mean 'num_s"),
        ({"algorithm": "anil", "learner": {"num_factors": 3}}, "'model.learner.num_factors'"),
        ({"learner": 3}, "learner is 3; it must be a table"),
        ({"lerner": {}}, "Did you mean 'learner'"),
    ],
)
def test_what_is_not_known_is_told(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(ModelConfig, data, "model")


def test_a_network_is_found_by_name_and_by_path() -> None:
    fields: dict[str, Any] = {
        "user_fields": USER_FIELDS,
        "item_fields": ITEM_FIELDS,
        "graded": True,
    }
    chain = network_of(PreferenceConfig(), **fields)
    assert type(chain) is NETWORKS["preference"]
    normalised = network_of(PreferenceConfig(layer_norm=True), **fields)
    named = network_of(PreferenceConfig(kind="interacting"), **fields)
    path = "recmeta.metalearn.networks.estimators.interacting:InteractingNetwork"
    found = network_of(PreferenceConfig(kind=path), **fields)
    assert type(normalised) is type(named) is type(found) is NETWORKS["interacting"]
    with pytest.raises(UserError, match="must be a subclass"):
        network_of(PreferenceConfig(kind="numpy:ndarray"), **fields)
    with pytest.raises(UserError, match=r"no network 'preferences'\. Did you mean 'preference'"):
        parse(ModelConfig, {"network": {"kind": "preferences"}})


def test_hyperparameters_of_another_algorithm_are_refused() -> None:
    with pytest.raises(UserError, match="learner is a ANILConfig, and the algorithm 'maml'"):
        ModelConfig(learner=ANILConfig())


def test_configurations_that_held_both_algorithms_still_load() -> None:
    """As models were saved when there were two."""
    maml, closed_form = to_dict(MAMLConfig(num_steps=9)), to_dict(BayesianLinearConfig())
    both = {"learner": maml, "bayesian_linear": {**closed_form, "num_factors": 5}}
    found = parse(ModelConfig, {"algorithm": "bayesian-linear", **both})
    assert found.learner == BayesianLinearConfig(num_factors=5)
    assert parse(ModelConfig, {"algorithm": "maml", **both}).learner == MAMLConfig(num_steps=9)


def test_levels_are_those_of_the_training_values_unless_told(task_set: TaskSet) -> None:
    told = ModelConfig(learner=MAMLConfig(num_levels=4))
    model = Model.untrained(told, task_set, torch.device("cpu"))
    assert model.config == told
    assert MAMLConfig().with_levels(5) == dataclasses.replace(MAMLConfig(), num_levels=5)


def test_a_configuration_must_say_how_to_build() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Unfinished(LearnerConfig):
        """Says nothing."""

    with pytest.raises(NotImplementedError, match="Unfinished"):
        Unfinished().build(None)  # type: ignore[arg-type]
