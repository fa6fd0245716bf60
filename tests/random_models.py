"""Models with random parameters and with all that may order lists: what is exported need not be
good."""

import dataclasses
from typing import Any

import numpy as np
import torch

from recmeta.metalearn.algorithms.closed_form.bayesian_linear import BayesianLinearConfig
from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig
from recmeta.metalearn.heads.choice_head import BY_PROFILE, ChoiceHead
from recmeta.metalearn.heads.list_head import (
    ATTRIBUTES,
    CHOICES,
    CHOICES_BEFORE,
    KNOTS,
    LEARNER,
    POPULARITY,
    ListHead,
)
from recmeta.metalearn.heads.neighbours import taken_next, taken_together
from recmeta.metalearn.heads.shared_attributes import SharedAttributes, attribute_codes
from recmeta.metalearn.learner_config import LearnerConfig
from recmeta.metalearn.member_config import Member
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.tensors.value_codes import profile_codes
from recmeta.serving.intake import GivenUser, Intake
from recmeta.tasks.task_set import Tasks, TaskSet

NETWORK = PreferenceConfig(embedding_dim=3, hidden_dims=(6, 4))


def random_model(task_set: TaskSet, algorithm: str, learner: LearnerConfig, **config: Any) -> Model:
    """Return a model whose every parameter is random, over the task set's items."""
    about = ModelConfig(algorithm=algorithm, learner=learner, **{"network": NETWORK, **config})
    model = Model.untrained(about, task_set, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    model.params = {
        name: p + 0.2 * torch.randn(p.shape, generator=generator)
        for name, p in model.learner.init_params(generator).items()
    }
    return model


def bayes(**given: Any) -> BayesianLinearConfig:
    """Return a small Bayesian linear regression."""
    return BayesianLinearConfig(num_factors=3, learn_content=True, **given)


def on_bayes(task_set: TaskSet) -> Model:
    """Return MAML on top of one, with layers that have an output."""
    base = Member(algorithm="bayesian-linear", learner=bayes())
    return random_model(task_set, "maml", MAMLConfig(base=base))


def with_every_column(model: Model, task_set: TaskSet, *, in_order: bool, graded: bool) -> Model:
    """Return the model with lists that read everything that lists can read.

    Args:
        in_order: whether the choice head weighs rows by their age.
        graded: whether rows count by their values, and not by whether an item was taken.
    """
    train, num_items = task_set.tasks("train"), task_set.spec.num_items
    rows = train.rows
    codes = attribute_codes(model.encoder, task_set.items())
    assert codes is not None
    tables = {
        "together": taken_together(rows, num_items, 5, None, 0),
        "next": taken_next(rows, num_items, 5, 2, 0),
        ATTRIBUTES: SharedAttributes.counted(*codes, rows),
    }
    columns = (POPULARITY, LEARNER, *tables, CHOICES, CHOICES_BEFORE)
    random = np.random.default_rng(1)
    weight_KC = random.normal(size=(len(KNOTS), len(columns))).astype(np.float32)
    count_I = random.poisson(5, num_items)
    model.learned_lists = ListHead(
        columns=columns,
        weight_KC=torch.from_numpy(weight_KC),
        count_I=torch.from_numpy(count_I.astype(np.float32)),
        tables=tables,
        centre=2.5 if graded else None,
        taken_from=None if graded else 2.0,
        choices=_choices(model, train, count_I, in_order=in_order),
        value_range=model.value_range if graded else None,
    )
    return model


def _choices(model: Model, train: Tasks, count_I: Any, *, in_order: bool) -> ChoiceHead:
    generator = torch.Generator().manual_seed(2)
    _, field_V = profile_codes(model.encoder, train.profile)
    head = ChoiceHead.init(
        count_I,
        torch.randn((len(count_I), 4), generator=generator),
        1.0,
        2,
        most_rows=4,
        in_order=in_order,
        num_profile_values=len(field_V),
    )
    assert BY_PROFILE in head.params
    noisy = {
        name: p + 0.1 * torch.randn(p.shape, generator=generator) for name, p in head.params.items()
    }
    return dataclasses.replace(head, params=noisy)


def drawn_user(model: Model, num_rows: int, seed: int) -> GivenUser:
    """Return a user with so many rows and a profile of which something may be unknown."""
    random, items = np.random.default_rng(seed), model.catalogue.items
    low, high = model.value_range
    item_ids = items.item_id.to_pylist()
    profile: dict[str, Any] = {}
    for field in model.encoder.user_fields:
        code = int(random.integers(0, field.num_codes)) if field.is_coded else 0
        value = field.values[code - 1] if code else None
        profile[field.name] = value
        if field.kind == "numeric":
            profile[field.name] = float(random.normal(field.mean, field.scale))
        elif field.kind == "multi":
            profile[field.name] = [] if value is None else [value]
    return GivenUser(
        item_id=tuple(item_ids[n] for n in random.permutation(len(item_ids))[:num_rows]),
        value=tuple(
            float(v) if model.objective == "rating" else None
            for v in random.integers(int(low), int(high) + 1, num_rows)
        ),
        time=tuple(range(num_rows)),
        profile=profile,
    )


def inputs_for(model: Model, user: GivenUser, top_k: int, padding: int = 0) -> dict[str, Any]:
    """Return what a graph is given for a user, as its description says."""
    number_of, num_rows = Intake(model).number_of, len(user.item_id)
    places = [number_of[item_id] for item_id in user.item_id]
    found: dict[str, Any] = {
        "item": np.array([*places, *[0] * padding], np.int64),
        "mask": np.arange(num_rows + padding) < num_rows,
        "top_k": np.array([top_k], np.int64),
    }
    if model.objective == "rating":
        found["value"] = np.array([*user.value, *[0.0] * padding], np.float32)
    for field in model.encoder.user_fields:
        given = user.profile.get(field.name)
        if field.kind == "numeric":
            found[f"profile.{field.name}"] = np.array([np.nan if given is None else given], "f4")
            continue
        values = given if isinstance(given, list) else [] if given is None else [given]
        codes = [1 + field.values.index(str(value)) for value in values]
        width = field.width if field.kind == "multi" else 1
        found[f"profile.{field.name}"] = np.array([*codes, *[0] * width][:width], np.int64)
    return found
