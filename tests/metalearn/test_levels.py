"""The level head: what it says, how it is learned, and that everything reads the same of it."""

import dataclasses
import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from recmeta.evaluation.calibration import calibration, learn_uncertainty
from recmeta.evaluation.learned import LearnedPredictor
from recmeta.evaluation.metrics.errors.mae import mae
from recmeta.evaluation.metrics.errors.rmse import rmse
from recmeta.evaluation.metrics.query_order.ndcg import ndcg
from recmeta.evaluation.predictor import query_scores
from recmeta.metalearn.heads.levels import (
    INPUTS,
    LEARNED,
    LOCATION,
    LOG_USERS,
    SCALE,
    LevelHead,
    LevelShares,
    cumulative,
    designs,
    without_item,
)
from recmeta.metalearn.heads.neighbours import most_similar
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.predicted_rows import predict_query
from recmeta.metalearn.scorer import Scorer
from recmeta.reporting import markdown
from recmeta.serving.explanations import support_effects
from recmeta.serving.feature_effects import features, scores_knowing
from recmeta.serving.ranking import ScoringConfig, adapt_users, rank
from recmeta.tasks.item_files import Items
from recmeta.tasks.task_set import Ragged, Tasks, TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.training.levels import Rated, _derivatives, _fitted, _with_new_items, learn_levels
from recmeta.workspace import DIGESTS, Folder

NUM_ITEMS = 6
SIMILARITY_II = torch.tensor(
    [
        [1.0, 0.5, 0.2, 0.0, -0.3, 0.1],
        [0.5, 1.0, 0.4, 0.3, 0.0, 0.0],
        [0.2, 0.4, 1.0, 0.6, 0.0, 0.0],
        [0.0, 0.3, 0.6, 1.0, 0.0, 0.0],
        [-0.3, 0.0, 0.0, 0.0, 1.0, 0.7],
        [0.1, 0.0, 0.0, 0.0, 0.7, 1.0],
    ]
)


def _head(num_levels: int = 5, num_neighbours: int = NUM_ITEMS) -> LevelHead:
    location = {"mean": 0.7, "vote": 0.4, "user_bias": 0.2, "mean by rows": 0.1, "item_bias": 0.3}
    scale = {"log_spread": 0.8, "log_rows": -0.1}
    bound = torch.tensor([[-1e3], [1e3]], dtype=torch.float64).expand(2, len(INPUTS))
    threshold_T = torch.arange(num_levels - 1, dtype=torch.float64) - 1.3
    return LevelHead(
        lowest=1.0,
        step=0.5,
        threshold_T=threshold_T,
        location_F=torch.tensor([location.get(name, 0.0) for name in LOCATION]).double(),
        scale_G=torch.tensor([scale.get(name, 0.0) for name in SCALE]).double(),
        new_threshold_T=threshold_T + 0.2,
        new_location_F=torch.tensor([float(name == "mean") for name in LOCATION]).double(),
        new_scale_G=torch.tensor([float(name == "log_spread") for name in SCALE]).double(),
        bound_2C=bound.contiguous(),
        mean=2.1,
        deviation=0.8,
        user_regularisation=2.0,
        damping=0.5,
        bias_J=torch.tensor([0.3, -0.2, 0.0, 0.1, 0.0, -0.4]),
        similar=most_similar(SIMILARITY_II, np.arange(NUM_ITEMS), NUM_ITEMS, num_neighbours),
        place_I=torch.arange(NUM_ITEMS),
    )


def _rated(head: LevelHead, inputs_NC: np.ndarray, level_N: np.ndarray) -> Rated:
    """Return ratings of users with four rows each."""
    nothing_N = np.zeros(len(level_N))
    return Rated(
        inputs_NC=inputs_NC,
        level_N=level_N,
        value_N=head.value_L[level_N],
        raw_N=nothing_N,
        median_N=nothing_N,
        user_N=np.arange(len(level_N)) // 4,
        weight_N=np.full(len(level_N), 0.25),
    )


def test_every_number_is_read_from_one_distribution() -> None:
    head = _head()
    inputs = np.random.default_rng(0).normal(size=(3, 4, len(INPUTS)))
    inputs[..., LOG_USERS] = 0.1 + np.abs(inputs[..., LOG_USERS])
    shares = head.shares(inputs)
    location, scale = designs(inputs)
    for place in np.ndindex(3, 4):
        at = float(location[place] @ head.location_F.numpy())
        width = math.sqrt(3) / math.pi * math.exp(float(scale[place] @ head.scale_G.numpy()))
        below = [1 / (1 + math.exp(-(t - at) / width)) for t in head.threshold_T.tolist()]
        share = [b - a for a, b in zip([0.0, *below], [*below, 1.0], strict=True)]
        levels = [1.0 + 0.5 * k for k in range(5)]
        mean = sum(p * v for p, v in zip(share, levels, strict=True))
        variance = sum(p * (v - mean) ** 2 for p, v in zip(share, levels, strict=True))
        median = next(v for v, b in zip(levels, [*below, 1.0], strict=True) if b >= 0.5)
        assert shares.share_L[place] == pytest.approx(share, abs=1e-12)
        assert shares.share_L[place].sum() == pytest.approx(1, abs=1e-12)
        assert shares.mean[place] == pytest.approx(mean)
        assert shares.median[place] == median
        assert shares.deviation[place] == pytest.approx(math.sqrt(variance))
        assert shares.at_least(2.0)[place] == pytest.approx(sum(share[2:]))


def test_the_median_has_the_least_absolute_error() -> None:
    shares = LevelShares(np.array([1.0, 2.0, 3.0]), np.array([[0.2, 0.4, 0.4], [0.5, 0.1, 0.4]]))
    assert shares.median.tolist() == [2.0, 1.0]


def test_votes_are_what_neighbours_say() -> None:
    head = _head()
    support = Ragged.from_lists([[1, 2, 4], [], [5, 0]], [[3.0, 1.0, 2.5], [], [1.0, 3.0]])
    asked = torch.tensor([[0, 3], [2, 5], [4, 1]])
    found = head.votes(head.state(support), asked)
    bias = head.bias_J.tolist()
    for user in range(3):
        rows = slice(*support.offsets[user : user + 2])
        items, values = support.item[rows].tolist(), support.value[rows].tolist()
        left = [v - 2.1 - bias[i] for i, v in zip(items, values, strict=True)]
        own = sum(left) / (len(left) + 2.0)
        for place, item in enumerate(asked[user].tolist()):
            near = [max(float(SIMILARITY_II[i, item]), 0.0) * (i != item) for i in items]
            total = sum(s * (e - own) / 0.5 for s, e in zip(near, left, strict=True))
            assert found[user, place] == pytest.approx(total / (sum(near) + 0.5), abs=1e-6)
    assert (found[1] == 0).all()  # nothing is known of that user
    kept = most_similar(SIMILARITY_II, np.arange(NUM_ITEMS), NUM_ITEMS, 1)
    assert len(kept.item) == NUM_ITEMS
    assert kept.strength(torch.tensor([4, 0]), torch.tensor([5, 5])).tolist() == [
        pytest.approx(0.7),
        0.0,
    ]


def test_over_another_catalogue_items_keep_what_is_known_of_them() -> None:
    head = _head()
    number = np.array([4, -1, 0, 2])  # new, and renumbered
    other = head.on(number)
    here = head.state(Ragged.from_lists([[4, 2]], [[3.0, 1.0]]))
    there = other.state(Ragged.from_lists([[0, 3]], [[3.0, 1.0]]))
    for name, t in here.items():
        assert torch.equal(there[name], t)
    expected = head.votes(here, torch.tensor([[4, 0, 2]]))
    found = other.votes(there, torch.tensor([[0, 2, 3, 1]]))
    assert found[0, :3].tolist() == expected[0].tolist()
    assert found[0, 3] == 0
    unknown = other.state(Ragged.from_lists([[1]], [[3.0]]))
    assert (other.votes(unknown, torch.tensor([[0, 2, 3]])) == 0).all()


def test_the_slope_is_that_of_the_likelihood() -> None:
    head, generator = _head(), np.random.default_rng(1)
    inputs = generator.normal(size=(40, len(INPUTS)))
    inputs[:, LOG_USERS] = 0.1 + np.abs(inputs[:, LOG_USERS])
    level_N, weight_N = generator.integers(0, 5, 40), generator.random(40)
    location, scale = designs(inputs)
    theta_P = torch.cat([head.threshold_T, head.location_F, head.scale_G]).numpy()
    first = 4, 4 + len(LOCATION)

    def loss(theta_P: np.ndarray) -> float:
        parts = [torch.from_numpy(p) for p in np.split(theta_P, first)]
        some = dataclasses.replace(
            head, threshold_T=parts[0], location_F=parts[1], scale_G=parts[2]
        )
        share_NL = some.shares(inputs).share_L
        return -float(weight_N @ np.log(share_NL[np.arange(40), level_N]))

    slope_P, curve_PP = _derivatives(theta_P, first, location, scale, level_N, weight_N)
    for place in range(len(theta_P)):
        step_P = np.zeros(len(theta_P))
        step_P[place] = 1e-6
        expected = (loss(theta_P + step_P) - loss(theta_P - step_P)) / 2e-6
        assert slope_P[place] == pytest.approx(expected, abs=1e-5)
    assert np.linalg.eigvalsh(curve_PP).min() > -1e-9


def test_known_coefficients_are_found_again() -> None:
    head, generator = _head(), np.random.default_rng(2)
    num_rows = 40_000
    inputs_NC = generator.normal(size=(num_rows, len(INPUTS)))
    inputs_NC[:, INPUTS.index("log_rows")] += 2
    inputs_NC[:, LOG_USERS] += 5
    below_NT = head.shares(inputs_NC).share_L.cumsum(1)[:, :-1]
    level_N = (generator.random(num_rows)[:, None] > below_NT).sum(1)
    rated = _rated(head, inputs_NC, level_N)
    start = dataclasses.replace(
        head,
        threshold_T=head.threshold_T + 0.2,
        location_F=torch.eye(len(LOCATION), dtype=torch.float64)[0],
        scale_G=torch.zeros(len(SCALE), dtype=torch.float64),
    )
    found = _fitted(start, rated)
    for name in ("threshold_T", "location_F", "scale_G"):
        assert getattr(found, name).numpy() == pytest.approx(
            getattr(head, name).numpy(), abs=0.06
        ), name
    assert found.bound_2C[0].tolist() == inputs_NC.min(0).tolist()


def test_an_item_that_nobody_has_rated_has_coefficients_of_its_own() -> None:
    head, generator = _head(), np.random.default_rng(3)
    inputs_NC = generator.normal(size=(50, len(INPUTS)))
    inputs_NC[:, LOG_USERS] = np.where(np.arange(50) < 20, 0.0, 3.0)
    found = head.shares(inputs_NC).share_L
    as_others = dataclasses.replace(
        head, **{name: getattr(head, f"new_{name}") for name in LEARNED}
    ).shares(without_item(inputs_NC))
    assert found[:20] == pytest.approx(as_others.share_L[:20], abs=1e-12)
    assert np.abs(found[20:] - as_others.share_L[20:]).max() > 0.05
    changed_NC = inputs_NC.copy()
    for name in ("item_bias", "past_mean", "vote"):
        changed_NC[:, INPUTS.index(name)] += 1.0
    again = head.shares(changed_NC).share_L
    assert (again[:20] == found[:20]).all(), "such an item has none of these"
    assert np.abs(again[20:] - found[20:]).max() > 0.01


def test_new_items_are_no_worse_for_what_popularity_says_of_others() -> None:
    """Where items with many users are rated higher, one without any is like the average."""
    head, generator = _head(), np.random.default_rng(4)
    num_rows = 20_000
    inputs_NC = np.zeros((num_rows, len(INPUTS)))
    inputs_NC[:, LOG_USERS] = generator.uniform(3, 7, num_rows)
    location_N = 0.8 * (inputs_NC[:, LOG_USERS] - 5)
    noise_N = generator.logistic(scale=math.sqrt(3) / math.pi, size=num_rows)
    level_N = ((location_N + noise_N)[:, None] > head.threshold_T.numpy()).sum(1)
    rated = _rated(head, inputs_NC, level_N)
    fitted = _with_new_items(_fitted(head, rated), head, rated)
    new_1C = np.zeros((1, len(INPUTS)))
    assert fitted.shares(new_1C).mean[0] == pytest.approx(rated.value_N.mean(), abs=0.02)
    few_1C = new_1C.copy()
    few_1C[:, LOG_USERS] = 3.0
    assert fitted.shares(few_1C).mean[0] < rated.value_N.mean() - 0.3


def test_a_head_of_an_earlier_version_has_one_set_of_coefficients() -> None:
    head = _head()
    kept = {n: t for n, t in head.tensors().items() if not n.startswith("new_")}
    found = LevelHead.from_saved(head.about(), kept)
    inputs_NC = np.random.default_rng(5).normal(size=(20, len(INPUTS)))
    inputs_NC[:, LOG_USERS] = 0.0
    location_NF, scale_NG = designs(inputs_NC)
    below_NT = cumulative(
        location_NF @ head.location_F.numpy(),
        scale_NG @ head.scale_G.numpy(),
        head.threshold_T.numpy(),
    )
    share_NL = found.shares(inputs_NC).share_L
    assert share_NL.cumsum(1)[:, :-1] == pytest.approx(below_NT, abs=1e-12)
    again = LevelHead.from_saved(found.about(), found.tensors())
    assert (again.shares(inputs_NC).share_L == share_NL).all()


# A whole model ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def task_set(tmp_path_factory: pytest.TempPathFactory) -> TaskSet:
    config = SyntheticConfig(num_users=500, num_items=60, rows_per_user=(10, 30), num_stars=5)
    return write_task_set(generate(config, seed=5), Folder.at(tmp_path_factory.mktemp("tasks")))


@pytest.fixture(scope="module")
def model(task_set: TaskSet) -> Model:
    """Return a model of ratings, its learner hardly trained, with its heads."""
    network = PreferenceConfig(embedding_dim=2, hidden_dims=(4,))
    config = ModelConfig(algorithm="bayesian-linear", network=network)
    model = Model.untrained(config, task_set, torch.device("cpu"))
    model.params = model.learner.init_params(torch.Generator().manual_seed(0))
    model.levels = learn_levels(model, task_set, seed=0)
    model.uncertainty = learn_uncertainty(model, task_set.tasks("dev"))
    return model


def _without(model: Model) -> Model:
    found = model.on(model.catalogue.items, model.catalogue.statistics)
    found.levels = None
    return found


def test_users_are_predicted_better_with_it(model: Model, task_set: TaskSet) -> None:
    assert model.levels is not None
    assert len(model.levels.similar.item) > 0
    tasks = task_set.tasks("test")
    alone, found = (
        query_scores(LearnedPredictor("model", some), tasks) for some in (_without(model), model)
    )
    assert mae(found.value_N, tasks.query).mean() < mae(alone.value_N, tasks.query).mean() - 0.02
    assert rmse(found.mean_N, tasks.query).mean() < rmse(alone.mean_N, tasks.query).mean() - 0.02
    gains = [ndcg(s.order_N, tasks.query, 5, "linear", 1.0) for s in (alone, found)]
    assert np.nanmean(gains[1]) > np.nanmean(gains[0])
    assert set(np.unique(found.value_N)) <= {1.0, 2.0, 3.0, 4.0, 5.0}


def test_what_it_says_is_calibrated(model: Model, task_set: TaskSet) -> None:
    tasks = task_set.tasks("test")
    said = Scorer.of(model).predict_query_values(tasks)
    assert said.shares is not None
    assert said.spread == pytest.approx(said.shares.deviation)
    assert model.uncertainty is not None
    assert (model.uncertainty.intercept, model.uncertainty.slope) == (0.0, 1.0)
    found = calibration(model, tasks, task_set.tasks("dev"), np.random.default_rng(0))
    assert found is not None
    assert [row["level"] for row in found["levels"]] == [1.0, 2.0, 3.0, 4.0, 5.0]
    for place, row in enumerate(found["levels"]):
        share_N = said.shares.share_L[:, place]
        per_user_B = [share_N[tasks.query.task == b].mean() for b in range(len(tasks))]
        assert row["predicted"] == pytest.approx(np.mean(per_user_B))
        is_level_N = tasks.query.value == row["level"]
        per_user_B = [is_level_N[tasks.query.task == b].mean() for b in range(len(tasks))]
        assert row["observed"] == pytest.approx(np.mean(per_user_B))
        half = (row["ci_high"] - row["ci_low"]) / 2
        assert abs(row["predicted"] - row["observed"]) < 1.5 * half
    for row in found["coverage"]:
        assert row["observed"] == pytest.approx(row["level"], abs=0.08)
    first = found["levels"][0]
    interval = f"[{first['ci_low']:.1%}, {first['ci_high']:.1%}]"
    text = markdown.calibration({"calibration": found})
    assert f"| 1 | {first['predicted']:.1%} | {first['observed']:.1%} {interval} |" in text


def test_a_user_is_alone_in_the_batch(model: Model, task_set: TaskSet) -> None:
    tasks = task_set.tasks("test").take(np.arange(12))
    together = Scorer.of(model).predict_query_values(tasks).mean
    for user in range(12):
        alone = Scorer.of(model).predict_query_values(tasks.take(np.array([user]))).mean
        rows = slice(*tasks.query.offsets[user : user + 2])
        np.testing.assert_allclose(alone, together[rows], atol=1e-5)


def test_it_is_kept_with_the_model(model: Model, task_set: TaskSet, tmp_path: object) -> None:
    tasks, folder = task_set.tasks("test"), Folder.at(str(tmp_path))
    model.save(folder)
    loaded = Model.load(folder).on(model.catalogue.items, model.catalogue.statistics)
    expected, found = (Scorer.of(some).predict_query_values(tasks) for some in (model, loaded))
    assert expected.shares is not None
    assert found.shares is not None
    np.testing.assert_array_equal(found.shares.share_L, expected.shares.share_L)
    np.testing.assert_array_equal(found.mean, expected.mean)
    about = folder.read_json("model.json")
    del about["levels"]  # as models were before there was any
    folder.write_json("model.json", about)
    folder.delete(DIGESTS)
    assert Model.load(folder).levels is None


def test_items_may_be_renumbered(model: Model, task_set: TaskSet) -> None:
    items, past = task_set.items(), task_set.statistics()
    order = np.random.default_rng(3).permutation(len(items.item_id))
    number_I = np.argsort(order)
    other = model.on(
        Items(
            items.item_id.take(pa.array(order)),
            np.arange(len(order), dtype=np.int32),
            items.valid_from[order],
            items.attributes.take(pa.array(order)),
        ),
        dataclasses.replace(
            past, num_users=past.num_users[:, order], sum_values=past.sum_values[:, order]
        ),
    )
    tasks = task_set.tasks("test")
    moved = dataclasses.replace(
        tasks,
        support=dataclasses.replace(tasks.support, item=number_I[tasks.support.item]),
        query=dataclasses.replace(tasks.query, item=number_I[tasks.query.item]),
    )
    np.testing.assert_allclose(
        Scorer.of(other).predict_query_values(moved).mean,
        Scorer.of(model).predict_query_values(tasks).mean,
        atol=1e-5,
    )


def test_lists_explanations_and_predictions_have_one_centre(
    model: Model, task_set: TaskSet
) -> None:
    now = model.on(task_set.items(), task_set.statistics().last())
    tasks = _at_the_end(task_set.tasks("test")).take(np.arange(4))
    scorer = Scorer.of(now)
    lists = rank(scorer, adapt_users(scorer, tasks), ScoringConfig(top_k=3))
    found = predict_query(scorer, dataclasses.replace(tasks, query=Ragged.asking(lists.item_Bk)))
    np.testing.assert_allclose(lists.score_Bk.reshape(-1), found.expected_N, atol=1e-5)
    effects = support_effects(scorer, tasks, lists.item_Bk)
    np.testing.assert_allclose(effects.score_Bk, lists.score_Bk, atol=1e-5)
    one = tasks.take(np.array([0]))
    shorter = dataclasses.replace(one, support=one.support.select(one.support.position != 1))
    asked = dataclasses.replace(shorter, query=Ragged.asking(lists.item_Bk[:1]))
    left = predict_query(scorer, asked).expected_N
    np.testing.assert_allclose(effects.effect_Nk[1], lists.score_Bk[0] - left, atol=1e-5)
    known = np.ones((2, len(features(now))), np.bool_)
    known[1] = False
    score_M = scores_knowing(now, scorer.adapt(one), int(lists.item_Bk[0, 0]), known)
    assert score_M[0] == pytest.approx(lists.score_Bk[0, 0], abs=1e-5)
    assert score_M[1] != pytest.approx(score_M[0], abs=1e-3)


def test_without_levels_or_users_there_is_none(
    model: Model, task_set: TaskSet, tmp_path: object
) -> None:
    config = SyntheticConfig(num_users=120, num_items=30, rows_per_user=(6, 9))  # real numbers
    smooth = write_task_set(generate(config, seed=5), Folder.at(str(tmp_path)))
    plain = Model.untrained(model.config, smooth, torch.device("cpu"))
    plain.params = plain.learner.init_params(torch.Generator().manual_seed(0))
    assert learn_levels(plain, smooth, seed=0) is None


def _at_the_end(tasks: Tasks) -> Tasks:
    not_counted = [
        dataclasses.replace(side, counted=np.zeros_like(side.counted))
        for side in (tasks.support, tasks.query)
    ]
    return dataclasses.replace(
        tasks,
        cut_time=np.full_like(tasks.cut_time, np.iinfo(np.int64).max),
        snapshot=np.zeros_like(tasks.snapshot),
        support=not_counted[0],
        query=not_counted[1],
    )
