"""A selector's members as models of their own, which share its encoder and its catalogue."""

import dataclasses

from recmeta.metalearn.algorithms.combined.selector import (
    Member,
    SelectorConfig,
    as_member,
    of_member,
)
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig


def with_members(config: ModelConfig, members: tuple[ModelConfig, ...]) -> ModelConfig:
    """Return a selector's configuration with the learners of these."""
    assert isinstance(config.learner, SelectorConfig)
    named = tuple(
        Member(algorithm=m.algorithm, learner=m.learner, network=m.network) for m in members
    )
    return dataclasses.replace(config, learner=dataclasses.replace(config.learner, members=named))


def num_members(model: Model) -> int:
    """Return how many learners a model chooses from; 0 for one that is no selector."""
    learner = model.config.learner
    return len(learner.members) if isinstance(learner, SelectorConfig) else 0


def member_config(model: Model, number: int) -> ModelConfig:
    """Return what a member is as a model of its own."""
    learner = model.config.learner
    assert isinstance(learner, SelectorConfig)
    chosen = learner.members[number]
    return dataclasses.replace(
        model.config,
        algorithm=chosen.algorithm,
        learner=chosen.learner,
        network=chosen.network or model.config.network,
    )


def member(model: Model, number: int) -> Model:
    """Return a member with its parameters, where the selector has any."""
    return Model(
        member_config(model, number),
        of_member(number, model.params) or None,
        model.encoder,
        model.catalogue.items,
        model.catalogue.statistics,
        model.objective,
        model.value_range,
        model.device,
    )


def put_member(model: Model, number: int, trained: Model) -> None:
    """Give a member the parameters of the model that it was trained as."""
    model.params = model.params | as_member(number, trained.params)
