"""A model starts with what a factorisation, or an earlier model, knows already."""

import dataclasses
import functools

import numpy as np
import pytest
import torch

from recmeta.errors import UserError
from recmeta.metalearn.algorithms.closed_form.bayesian_linear import BayesianLinearConfig
from recmeta.metalearn.factors.content_prior import ContentConfig, ContentRegression
from recmeta.metalearn.factors.factorisation import (
    BayesianFactorisation,
    FactorisationConfig,
    factorise,
)
from recmeta.metalearn.learner import Params
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.scorer import Scorer
from recmeta.metalearn.starts import bayesian_linear_start
from recmeta.metalearn.starts.earlier_model import Rescale, start_from_model
from recmeta.metalearn.starts.pretraining import start_from_factorisation, start_from_factors
from recmeta.metalearn.tensors.encoding import Encoder, FeatureConfig
from recmeta.tasks.task_set import TaskSet

NUM_ITEMS = 30


def started(
    task_set: TaskSet, num_factors: int = 3, *, wide: bool = True, use_item_id: bool = True
) -> tuple[Model, Params, Params, torch.Tensor, torch.Tensor]:
    """Return a model, its parameters before and after, biases and factors."""
    config = ModelConfig(
        network=PreferenceConfig(embedding_dim=4, hidden_dims=(5,), wide=wide),
        features=FeatureConfig(use_item_id=use_item_id),
    )
    model = Model.untrained(config, task_set, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    before = model.learner.init_params(generator)
    bias_I = torch.randn(NUM_ITEMS, generator=generator)
    factors_IF = torch.randn((NUM_ITEMS, num_factors), generator=generator)
    return model, before, start_from_factors(model, before, bias_I, factors_IF), bias_I, factors_IF


def test_embeddings_hold_bias_and_factors(task_set: TaskSet) -> None:
    model, before, after, bias_I, factors_IF = started(task_set)
    table = after["embedding.item.item_id"]
    field = next(f for f in model.encoder.item_fields if f.name == "item_id")
    numbers = [int(value[1:]) for value in field.values]
    assert not table[0].any()
    torch.testing.assert_close(table[1:, 0], bias_I[numbers] / model.encoder.value_scale)
    torch.testing.assert_close(table[1:, 1:], factors_IF[numbers])
    changed = {name for name, p in after.items() if not torch.equal(p, before[name])}
    assert changed == {"embedding.item.item_id", "layer.1.weight"}


def test_the_start_tells_items_apart_by_their_bias(task_set: TaskSet) -> None:
    """The last layer adds the bias, so a change of bias is a change of the prediction."""
    model, _, after, bias_I, _ = started(task_set)
    tasks = task_set.tasks("test").with_shots(0)
    zeroed = {n: p.clone() for n, p in after.items()}
    zeroed["embedding.item.item_id"][:, 0] = 0.0
    for params in (after, zeroed):  # let nothing but the wide part speak
        params["layer.1.weight"][:, :5] = 0.0
    outputs = []
    for params in (after, zeroed):
        model.params = params
        rows = model.catalogue.rows(tasks.query, tasks)
        with torch.no_grad():
            state = model.learner.adapt(params, Scorer.of(model).support(tasks))
            outputs.append(model.learner.predict(params, state, rows).mean_BR[rows.mask_BR])
    known = np.isin(tasks.query.item, task_set.tasks("train").query.item)
    expected = bias_I[torch.from_numpy(tasks.query.item.astype(np.int64))]
    torch.testing.assert_close(
        (outputs[0] - outputs[1])[known], (expected / model.encoder.value_scale)[known]
    )


def test_too_many_factors_are_rotated_to_the_leading_ones(task_set: TaskSet) -> None:
    _, _, after, _, factors_IF = started(task_set, num_factors=6)
    kept = after["embedding.item.item_id"][1:, 1:]
    assert kept.shape[1] == 3
    # Rotated, not cut: the kept directions hold the most variance that three can.
    singular = torch.linalg.svdvals(factors_IF)[:3].square().sum()
    torch.testing.assert_close(kept.square().sum(), singular, rtol=0.1, atol=0.1)


def test_the_parameters_given_are_left_alone(task_set: TaskSet) -> None:
    model, before, _, bias_I, factors_IF = started(task_set)
    copies = {name: p.clone() for name, p in before.items()}
    start_from_factors(model, before, bias_I, factors_IF)
    for name, p in before.items():
        assert torch.equal(p, copies[name])


@pytest.mark.parametrize("wide", [True, False])
def test_without_item_embeddings_nothing_changes(task_set: TaskSet, wide: bool) -> None:
    _, before, after, _, _ = started(task_set, wide=wide, use_item_id=False)
    assert after is before


def test_without_a_wide_layer_only_embeddings_change(task_set: TaskSet) -> None:
    _, before, after, _, _ = started(task_set, wide=False)
    assert torch.equal(after["layer.1.weight"], before["layer.1.weight"])


def drawn(task_set: TaskSet, config: ModelConfig | None = None, seed: int = 0) -> Model:
    """Return a model with random parameters."""
    config = config or ModelConfig(network=PreferenceConfig(embedding_dim=4, hidden_dims=(5,)))
    model = Model.untrained(config, task_set, torch.device("cpu"))
    model.params = model.learner.init_params(torch.Generator().manual_seed(seed))
    return model


def rescaled_for(model: Model) -> Rescale:
    """Return how a model's learner takes another scale of values."""
    return functools.partial(model.config.learner.rescaled, model)


def with_encoder(model: Model, encoder: Encoder) -> Model:
    """Return a model of the same shape with fresh parameters for another encoder."""
    other = Model(
        model.config,
        None,
        encoder,
        model.catalogue.items,
        model.catalogue.statistics,
        model.objective,
        model.value_range,
        model.device,
    )
    other.params = other.learner.init_params(torch.Generator().manual_seed(99))
    return other


WITHOUT_PAST = ModelConfig(
    network=PreferenceConfig(embedding_dim=4, hidden_dims=(5,), use_statistics=False)
)
CLOSED_FORM = ModelConfig(algorithm="bayesian-linear", learner=BayesianLinearConfig(num_factors=3))


@pytest.mark.parametrize(("config", "num_shots"), [(WITHOUT_PAST, 0), (CLOSED_FORM, 5)])
def test_a_model_that_starts_from_an_earlier_one_predicts_as_it_does(
    task_set: TaskSet, config: ModelConfig, num_shots: int
) -> None:
    """Other codes for the same values, one more value, another scale: the same predictions."""
    earlier = drawn(task_set, config)
    fields = tuple(
        dataclasses.replace(f, values=("a new one", *reversed(f.values)))
        if f.kind != "numeric"
        else f
        for f in earlier.encoder.item_fields
    )
    scale, mean = earlier.encoder.value_scale, earlier.encoder.value_mean
    changed = dataclasses.replace(
        earlier.encoder, item_fields=fields, value_scale=2 * scale, value_mean=mean + 0.25
    )
    later = with_encoder(earlier, changed)
    later.params = start_from_model(later, later.params, earlier, rescaled_for(later))
    tasks = task_set.tasks("test").with_shots(num_shots)
    np.testing.assert_allclose(
        Scorer.of(later).score_query(tasks), Scorer.of(earlier).score_query(tasks), atol=1e-5
    )


def test_the_closed_form_learner_starts_where_the_factorisation_ends(task_set: TaskSet) -> None:
    """Of a user of whom nothing is known it predicts what the mean user would say."""
    config = dataclasses.replace(
        CLOSED_FORM, learner=BayesianLinearConfig(num_factors=3, estimate="mean")
    )
    model = drawn(task_set, config)
    train = task_set.tasks("train")
    rows = train.rows
    model.params = bayesian_linear_start.start_from_factorisation(model, model.params, rows, seed=0)
    content = ContentRegression(
        model.encoder.item_fields, model.catalogue.features, NUM_ITEMS, ContentConfig(), 0
    )
    scale, mean = model.encoder.value_scale, model.encoder.value_mean
    found = factorise(
        dataclasses.replace(rows, value=(rows.value - mean) / scale),
        content,
        NUM_ITEMS,
        FactorisationConfig(num_factors=3),
        0,
    )
    tasks = task_set.tasks("test").with_shots(0)
    vector_NC = found.item_IC[torch.from_numpy(tasks.query.item.astype(np.int64))]
    expected_N = found.user_mean_C[0] + vector_NC[:, 0] + vector_NC[:, 1:] @ found.user_mean_C[1:]
    expected_N = np.clip((expected_N * scale + mean).numpy(), *model.value_range)
    np.testing.assert_allclose(Scorer.of(model).score_query(tasks), expected_N, rtol=1e-4)


def test_a_learner_and_its_base_share_a_factorisation(task_set: TaskSet) -> None:
    network = PreferenceConfig(embedding_dim=4, hidden_dims=(5,))
    layers, base = drawn(task_set, ModelConfig(network=network)), drawn(task_set, CLOSED_FORM)
    rows = task_set.tasks("train").rows
    factorised: dict[int, BayesianFactorisation] = {}
    start_from_factorisation(layers, layers.params, rows, 0, factorised)
    (found,) = factorised.values()
    start = bayesian_linear_start.start_from_factorisation
    shared = start(base, base.params, rows, 0, factorised=factorised)
    assert list(factorised.values()) == [found]
    alone = start(base, base.params, rows, 0)
    assert all(torch.equal(shared[name], alone[name]) for name in alone)


def test_a_network_starts_with_the_factorisation_in_its_embeddings(task_set: TaskSet) -> None:
    """A known item's biases add up over its fields to what the factorisation found; a new item has
    those of its content."""
    config = ModelConfig(network=PreferenceConfig(embedding_dim=4, hidden_dims=(5,)))
    model = drawn(task_set, config)
    train = task_set.tasks("train")
    rows = train.rows
    started = start_from_factorisation(model, model.params, rows, seed=0)
    tables = [f for f in model.encoder.item_fields if f.kind != "numeric"]
    for field in tables:
        assert not started[f"embedding.item.{field.name}"][0].any()
        column = model.network.wide_column(field.name)
        assert column is not None
        assert started["layer.1.weight"][0, column] == 1.0
    same = drawn(task_set, CLOSED_FORM)
    other = bayesian_linear_start.start_from_factorisation(same, same.params, rows, seed=0)
    identity = started["embedding.item.item_id"]
    torch.testing.assert_close(identity, other["factors.item.item_id"])
    for field in tables:
        if field.name != "item_id":
            name = f"embedding.item.{field.name}"
            torch.testing.assert_close(started[name][1:], other[name][1:])


def test_what_the_earlier_model_did_not_know_stays_fresh(task_set: TaskSet) -> None:
    earlier = drawn(task_set)
    fields = tuple(
        dataclasses.replace(f, values=("a new one", *f.values)) if f.name == "item_id" else f
        for f in earlier.encoder.item_fields
    )
    later = with_encoder(earlier, dataclasses.replace(earlier.encoder, item_fields=fields))
    fresh = {name: p.clone() for name, p in later.params.items()}
    started = start_from_model(later, later.params, earlier, rescaled_for(later))
    name = "embedding.item.item_id"
    assert torch.equal(started[name][1], fresh[name][1])
    assert torch.equal(started[name][0], earlier.params[name][0])
    assert torch.equal(started[name][2:], earlier.params[name][1:])
    for unchanged, p in later.params.items():
        assert torch.equal(p, fresh[unchanged])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ModelConfig(network=PreferenceConfig(embedding_dim=8, hidden_dims=(5,))), "embedding_dim"),
        (ModelConfig(network=PreferenceConfig(embedding_dim=4, hidden_dims=(6,))), "layer.0"),
        (
            ModelConfig(
                network=PreferenceConfig(embedding_dim=4, hidden_dims=(5,)),
                features=FeatureConfig(use_item_id=False),
            ),
            "item_id",
        ),
    ],
)
def test_a_model_of_another_shape_is_no_start(
    task_set: TaskSet, config: ModelConfig, message: str
) -> None:
    later = drawn(task_set, config)
    with pytest.raises(UserError, match=message):
        start_from_model(later, later.params, drawn(task_set), rescaled_for(later))
