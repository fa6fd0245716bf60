"""Scores from capsules and item vectors are the server's."""

import dataclasses
import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from random_models import bayes, drawn_user, on_bayes, random_model, with_every_column

from recmeta import schema
from recmeta.errors import UserError
from recmeta.exporting.capsules import VectorSpace, scores
from recmeta.exporting.fingerprint import fingerprint
from recmeta.metalearn.algorithms.closed_form.weighted_ridge import WeightedRidgeConfig
from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig
from recmeta.metalearn.model import Model
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.serving.intake import Intake
from recmeta.serving.ranking import adapt_users
from recmeta.tasks.task_set import TaskSet

NOW = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
NUM_ROWS = (0, 1, 3, 12, 39)
TOLERANCE = 1e-5
"""Of scores, relative to their largest size: vectors are float32."""


def assert_scores_alike(model: Model) -> tuple[VectorSpace, pa.Table, pa.Table]:
    """Compare scores of users with few and with many rows."""
    space = VectorSpace(model, "7")
    tasks = Intake(model).tasks([drawn_user(model, n, seed) for seed, n in enumerate(NUM_ROWS)])
    users = adapt_users(space.scorer, tasks)
    block = space.scorer.item_block(-1, schema.END_OF_TIME, 0, model.catalogue.num_items)
    wanted_BI = space.scorer.rank_block(space.scorer.settled(users.state), block).numpy()
    capsules, items = space.capsules(users, run="abc", adapted_at=NOW), space.items(exported_at=NOW)
    found_BI = scores(capsules, items, space.about())
    size = np.abs(wanted_BI).max()
    np.testing.assert_allclose(found_BI, wanted_BI, rtol=0, atol=TOLERANCE * size)
    assert capsules[schema.NUM_INTERACTIONS].to_pylist() == list(NUM_ROWS)
    return space, capsules, items


@pytest.mark.parametrize("graded", [True, False])
def test_a_closed_form_is_a_product_of_vectors(rated: TaskSet, *, graded: bool) -> None:
    model = random_model(rated, "bayesian-linear", bayes(use_statistics=True))
    _, capsules, items = assert_scores_alike(
        with_every_column(model, rated, in_order=True, graded=graded)
    )
    assert capsules[schema.LAYERS].null_count == len(capsules)
    assert items[schema.FEATURES].null_count == len(items)


def test_layers_that_adapt_are_matrices_of_each_user(rated: TaskSet) -> None:
    model = with_every_column(on_bayes(rated), rated, in_order=False, graded=True)
    space, capsules, _ = assert_scores_alike(model)
    assert [layer["reads_features"] for layer in space.about()["layers"]] == [True, False, True]
    assert capsules[schema.LAYERS].null_count == 0
    narrow = PreferenceConfig(
        embedding_dim=2, hidden_dims=(5,), wide=False, start_from_item_mean=True
    )
    assert_scores_alike(random_model(rated, "maml", MAMLConfig(), network=narrow))


def test_clicks_have_capsules(clicked: TaskSet) -> None:
    model = random_model(clicked, "weighted-ridge", WeightedRidgeConfig(num_factors=3))
    assert_scores_alike(with_every_column(model, clicked, in_order=True, graded=False))


def test_vectors_of_another_version_are_refused(rated: TaskSet) -> None:
    model = random_model(rated, "bayesian-linear", bayes())
    space, capsules, items = assert_scores_alike(model)
    newer = random_model(rated, "bayesian-linear", bayes())
    newer.params = {name: p + 0.1 for name, p in newer.params.items()}
    other = VectorSpace(newer, "8")
    assert other.fingerprint != space.fingerprint
    with pytest.raises(UserError, match=r"capsules are of version 7 .*--model-version 8"):
        scores(capsules, other.items(exported_at=NOW), other.about())
    with pytest.raises(UserError, match=r"item vectors are of version 8 .*version 7"):
        scores(capsules, other.items(exported_at=NOW), space.about())
    newer_format: dict[str, Any] = space.about() | {"format": 2}
    with pytest.raises(UserError, match="have format 2"):
        scores(capsules, items, newer_format)


def test_what_is_no_sum_has_no_capsules(rated: TaskSet) -> None:
    each = random_model(rated, "maml", MAMLConfig(rates_per="parameter"))
    with pytest.raises(UserError, match="'maml', are not a sum"):
        VectorSpace(each, "1")


def test_a_fingerprint_is_of_parameters_lists_and_items(rated: TaskSet) -> None:
    model = random_model(rated, "bayesian-linear", bayes())
    found = {VectorSpace(model, "1").fingerprint}
    assert VectorSpace(model, "2").fingerprint in found
    with_every_column(model, rated, in_order=True, graded=True)
    found.add(VectorSpace(model, "1").fingerprint)
    assert model.learned_lists is not None
    model.learned_lists.count_I.add_(1)
    found.add(VectorSpace(model, "1").fingerprint)
    model.params = {name: p + torch.ones_like(p) for name, p in model.params.items()}
    assert len(found | {VectorSpace(model, "1").fingerprint}) == 4


def test_a_fingerprint_is_of_what_a_model_reads_of_items(rated: TaskSet) -> None:
    model = random_model(rated, "bayesian-linear", bayes(use_statistics=True))
    items, past = model.catalogue.items, model.catalogue.statistics
    same = model.on(items, past.last())
    assert fingerprint(same) == fingerprint(model)
    dearer = dataclasses.replace(past, sum_values=past.sum_values + 1)
    assert fingerprint(model.on(items, dearer)) != fingerprint(model)
    read = next(f.name for f in model.encoder.item_fields if f.kind == "categorical")
    place = items.attributes.column_names.index(read)
    turned = pa.array(items.attributes[read].to_pylist()[::-1], pa.string())
    others = items.attributes.set_column(place, read, turned)
    other = model.on(dataclasses.replace(items, attributes=others), past)
    assert fingerprint(other) != fingerprint(model)


def test_states_without_rows_have_capsules(rated: TaskSet) -> None:
    """Earlier versions wrote such states; the server scores them, too."""
    space = VectorSpace(random_model(rated, "bayesian-linear", bayes()), "7")
    users = adapt_users(space.scorer, Intake(space.model).tasks([drawn_user(space.model, 3, 0)]))
    earlier = {name: t for name, t in users.state.items() if not name.startswith("list.")}
    users = dataclasses.replace(users, state=earlier)
    block = space.scorer.item_block(-1, schema.END_OF_TIME, 0, space.model.catalogue.num_items)
    wanted_BI = space.scorer.rank_block(space.scorer.settled(users.state), block).numpy()
    found_BI = scores(
        space.capsules(users, run="abc", adapted_at=NOW),
        space.items(exported_at=NOW),
        space.about(),
    )
    np.testing.assert_allclose(found_BI, wanted_BI, rtol=0, atol=1e-4)
