"""A learner's members as models of their own, which share its encoder and its catalogue."""

import dataclasses

from recmeta.metalearn.member_config import HasMembers, Member, as_member, of_member
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig


def with_members(config: ModelConfig, members: tuple[ModelConfig, ...]) -> ModelConfig:
    """Return the configuration of a learner that has members with the learners of these.

    Raises:
        ValueError: if the learner has no members, or another number of them.
    """
    if not isinstance(config.learner, HasMembers):
        raise ValueError(
            f"members are given, and the algorithm is {config.algorithm!r}: only a selector has "
            "members, and a learner of the MAML family, whose base is one."
        )
    named = tuple(
        Member(
            algorithm=m.algorithm,
            learner=m.learner,
            network=m.network,
            num_negatives=m.num_negatives,
        )
        for m in members
    )
    return dataclasses.replace(config, learner=config.learner.with_members(named))


def num_members(model: Model) -> int:
    """Return the number of learners inside a model's learner."""
    learner = model.config.learner
    return len(learner.members) if isinstance(learner, HasMembers) else 0


def member_config(model: Model, number: int) -> ModelConfig:
    """Return the configuration of a member as a model of its own."""
    learner = model.config.learner
    assert isinstance(learner, HasMembers)
    one = learner.members[number]
    negatives = one.num_negatives
    return dataclasses.replace(
        model.config,
        algorithm=one.algorithm,
        learner=one.learner,
        network=one.network or model.config.network,
        num_negatives=model.config.num_negatives if negatives is None else negatives,
    )


def member(model: Model, number: int) -> Model:
    """Return a member as a model of its own, with its parameters if the model has any."""
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
