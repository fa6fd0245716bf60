"""Effects are what the public path gives without the row, for every learner."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch

from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.scorer import Scorer
from recmeta.serving import explanations
from recmeta.serving.explanations import SupportEffects, support_effects
from recmeta.serving.feature_effects import PAST, feature_effects, features, scores_knowing
from recmeta.serving.new_user_tasks import tasks_for_new_users
from recmeta.serving.ranking import ScoringConfig, adapt_users, rank
from recmeta.tasks.task_set import Tasks, TaskSet

END_OF_TIME = int(np.iinfo(np.int64).max)


@pytest.fixture(scope="module")
def bayesian_model(task_set: TaskSet) -> Model:
    config = ModelConfig(algorithm="bayesian-linear")
    model = Model.untrained(config, task_set, torch.device("cpu"))
    model.params = model.learner.init_params(torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    for p in model.params.values():
        p += 0.2 * torch.randn(p.shape, generator=generator)
    return model


@pytest.fixture(params=["maml", "bayesian-linear", "implicit"])
def explained(request: pytest.FixtureRequest) -> Model:
    name = {"maml": "model", "bayesian-linear": "bayesian_model", "implicit": "implicit_model"}
    found: Model = request.getfixturevalue(name[request.param])
    return found


def events(model: Model) -> pa.Table:
    """Return the interactions of three users: with six rows, with one, and with none."""
    ids = model.catalogue.items.item_id
    low, high = model.value_range
    values = np.linspace(low, high, 7)
    rows = [("a", n, values[n]) for n in range(6)] + [("b", 9, values[6])]
    return pa.table(
        {
            "user_id": ["c", *(user for user, _, _ in rows)],
            "item_id": pa.concat_arrays(
                [pa.nulls(1, ids.type), ids.take(pa.array([n for _, n, _ in rows]))]
            ),
            "value": [None, *(float(value) for _, _, value in rows)],
        }
    )


def score(model: Model, interactions: pa.Table, user: int, item: int) -> float:
    """Return a score by the public path, before clipping."""
    tasks, _ = tasks_for_new_users(model, interactions)
    snapshot = len(model.catalogue.statistics.time) - 1
    scorer = Scorer.of(model)
    asked = scorer.item_block(snapshot, END_OF_TIME, item, item + 1)
    output = scorer.predict(scorer.adapt(tasks), asked).ranked_by_BR[user, 0].item()
    if model.objective == "rating":
        return output * model.encoder.value_scale + model.encoder.value_mean
    return output


def test_without_a_row_the_score_is_what_its_effect_says(explained: Model) -> None:
    everything = events(explained)
    tasks, _ = tasks_for_new_users(explained, everything)
    item_Bk = np.array([[12, 10], [11, -1], [3, 4]])
    found = support_effects(Scorer.of(explained), tasks, item_Bk)
    assert found.user_N.tolist() == [0] * 6 + [1]
    assert np.isnan(found.score_Bk).tolist() == [[False, False], [False, True], [False, False]]
    for row, (user, number) in enumerate(zip(found.user_N, tasks.support.item, strict=True)):
        item_id = explained.catalogue.items.item_id[int(number)].as_py()
        kept = [pair != (tasks.user_id[user], item_id) for pair in pairs(everything)]
        without = everything.filter(pa.array(kept))
        if user == 1:  # who is not forgotten, only the row
            names_only = {"user_id": ["b"], "item_id": [None], "value": [None]}
            named = pa.table(names_only, schema=everything.schema)
            without = pa.concat_tables([without, named])
        for place, item in enumerate(item_Bk[user]):
            if item < 0:
                continue
            before = score(explained, everything, user, int(item))
            after = score(explained, without, user, int(item))
            assert before == pytest.approx(float(found.score_Bk[user, place]), abs=1e-5)
            effect = float(found.effect_Nk[row, place])
            assert before - after == pytest.approx(effect, abs=2e-5)
    assert np.abs(found.effect_Nk[:6]).max() > 1e-4


def pairs(table: pa.Table) -> list[tuple[str, str | None]]:
    return list(zip(table["user_id"].to_pylist(), table["item_id"].to_pylist(), strict=True))


def test_batches_change_nothing(explained: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, _ = tasks_for_new_users(explained, events(explained))
    item_Bk = np.array([[12, 10], [11, 13], [3, 4]])
    together = support_effects(Scorer.of(explained), tasks, item_Bk)
    monkeypatch.setattr(explanations, "ROWS_AT_ONCE", 1)
    alone = support_effects(Scorer.of(explained), tasks, item_Bk)
    np.testing.assert_allclose(together.score_Bk, alone.score_Bk, atol=1e-5)
    np.testing.assert_allclose(together.effect_Nk, alone.effect_Nk, atol=2e-5)


def test_a_ready_scorer_has_the_same_effects(explained: Model) -> None:
    tasks, _ = tasks_for_new_users(explained, events(explained))
    items = np.array([[0, 12, 3], [4, 5, -1], [7, -1, -1]])
    expected = support_effects(Scorer.of(explained), tasks, items)
    ready = Scorer.of(explained).ready()
    for found in (
        support_effects(ready, tasks, items),
        support_effects(ready, tasks, items, ready.support(tasks)),
    ):
        np.testing.assert_allclose(found.score_Bk, expected.score_Bk, atol=1e-5)
        np.testing.assert_allclose(found.effect_Nk, expected.effect_Nk, atol=1e-5)


def test_scores_are_those_of_the_ranked_list(explained: Model) -> None:
    tasks, _ = tasks_for_new_users(explained, events(explained))
    ranked = rank(
        Scorer.of(explained), adapt_users(Scorer.of(explained), tasks), ScoringConfig(top_k=3)
    )
    found = support_effects(Scorer.of(explained), tasks, ranked.item_Bk)
    clipped = found.score_Bk
    if explained.objective == "rating":
        clipped = np.clip(clipped, *explained.value_range)
    np.testing.assert_allclose(clipped, ranked.score_Bk, atol=1e-5)


def test_the_best_reason_is_the_row_that_raises_the_score_most() -> None:
    effect_Nk = np.array([[0.2, -0.1], [0.5, -0.2], [0.5, 0.0], [0.1, -1.0]], np.float32)
    found = SupportEffects(np.zeros((3, 2), np.float32), effect_Nk, np.array([0, 0, 0, 2]))
    assert found.best_reason().tolist() == [[1, -1], [-1, -1], [3, -1]]
    nobody = SupportEffects(np.zeros((2, 1), np.float32), effect_Nk[:0, :1], np.array([], np.int64))
    assert nobody.best_reason().tolist() == [[-1], [-1]]


def test_a_feature_is_left_out_by_scoring_an_item_without_it(explained: Model) -> None:
    tasks, _ = tasks_for_new_users(explained, events(explained))
    state = Scorer.of(explained).adapt(tasks.take(np.array([0])))
    found = feature_effects(explained, state, 12)
    assert found.name == features(explained)
    assert found.name[-1] == PAST
    assert np.isfinite(found.effect_F).all()
    known = np.ones((1, len(found.name)), np.bool_)
    whole = scores_knowing(explained, state, 12, known)
    expected = score(explained, events(explained), 0, 12)
    assert float(whole[0]) == pytest.approx(expected, abs=1e-5)


def test_an_unknown_attribute_is_what_is_left_out(model: Model) -> None:
    """The effect of an attribute is the difference to a catalogue whose item does not have it."""
    tasks, _ = tasks_for_new_users(model, events(model))
    items = model.catalogue.items
    name = next(
        f.name for f in model.encoder.item_fields if f.name in items.attributes.schema.names
    )
    column = items.attributes[name].combine_chunks()
    keep = pa.array([None if n == 12 else n for n in range(len(column))], pa.int64())
    place = items.attributes.schema.get_field_index(name)
    less = items.attributes.set_column(place, name, column.take(keep))
    without = model.on(dataclasses.replace(items, attributes=less), model.catalogue.statistics)
    state = Scorer.of(model).adapt(tasks.take(np.array([0])))
    found = feature_effects(model, state, 12)
    last = len(model.catalogue.statistics.time) - 1
    outputs = []
    for scorer in (Scorer.of(model), Scorer.of(without)):
        asked = scorer.item_block(last, END_OF_TIME, 12, 13)
        output = scorer.predict(state, asked).ranked_by_BR.item()
        outputs.append(output * model.encoder.value_scale)
    effect = float(found.effect_F[found.name.index(name)])
    assert outputs[0] - outputs[1] == pytest.approx(effect, abs=1e-5)


def test_attributes_that_an_item_lacks_have_no_effect(tasks_alone: Tasks, model: Model) -> None:
    state = Scorer.of(model).adapt(tasks_alone)
    masks = np.zeros((1, len(features(model))), np.bool_)
    nothing = [float(scores_knowing(model, state, item, masks)[0]) for item in (2, 3)]
    assert nothing[0] == pytest.approx(nothing[1], abs=1e-5)


@pytest.fixture
def tasks_alone(model: Model) -> Tasks:
    tasks, _ = tasks_for_new_users(model, events(model))
    return tasks.take(np.array([0]))
