"""The head that says what a user takes next adapts by the steps that it is said to, learns by their
exact gradient, and finds what follows what."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch

from recmeta.metalearn.heads.choice_head import (
    BY_PROFILE,
    EXPLAINS,
    LAG,
    LIKING,
    LOG_RATES,
    POPULARITY,
    PREDICTS,
    PRIOR_ROWS,
    START,
    UNMET,
    ChoiceHead,
)
from recmeta.metalearn.heads.list_head import CHOICES, KNOTS, LEARNER, ListHead
from recmeta.metalearn.learner import Params
from recmeta.tasks.task_set import Ragged, Tasks
from recmeta.training.choices.config import ChoiceConfig
from recmeta.training.choices.episodes import Episodes
from recmeta.training.choices.gradient import SHARPNESS, mean_loss, meta_gradient
from recmeta.training.choices.learn import ChoiceData, Profiles, meta_learned

NUM_ITEMS, NUM_FACTORS, NUM_VALUES = 12, 4, 5


def some_head(num_steps: int, seed: int = 0) -> ChoiceHead:
    """Return a head whose parameters are all drawn, in float64."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return ChoiceHead(
        params={
            PREDICTS: noise(NUM_ITEMS, NUM_FACTORS),
            EXPLAINS: noise(NUM_ITEMS, NUM_FACTORS),
            POPULARITY: noise(NUM_ITEMS),
            UNMET: torch.tensor(-5.0, dtype=torch.float64),
            START: 0.3 * noise(NUM_FACTORS),
            BY_PROFILE: 0.3 * noise(NUM_VALUES, NUM_FACTORS),
            LOG_RATES: 0.3 * noise(num_steps, NUM_FACTORS),
            PRIOR_ROWS: torch.tensor(0.7, dtype=torch.float64),
            LAG: 0.3 * noise(3),
            LIKING: torch.tensor(0.4, dtype=torch.float64),
        },
        in_order=True,
        most_rows=30,
    )


ITEM_BS = torch.tensor([[3, 7, 1, 9], [5, 0, 0, 0], [0, 0, 0, 0]])
MASK_BS = torch.tensor([[True] * 4, [True, False, False, False], [False] * 4])
LIKING_BS = torch.tensor([[1.0, -1.0, 0.5, 0.0], [1.0, 0, 0, 0], [0.0] * 4], dtype=torch.float64)
PROFILE_BW = torch.tensor([[1, 3], [2, 0], [4, 3]])
NO_PROFILE = torch.zeros((1, 0), dtype=torch.int64)
NEXT_BQ = torch.tensor([[2, 4, 4], [6, 7, 0], [11, 0, 0]])
NEXT_MASK_BQ = torch.tensor([[True] * 3, [True, True, False], [True, False, False]])


def started_by_hand(params: Params, profile: list[int]) -> torch.Tensor:
    """Return the vector of a user of some profile of whom no row is known."""
    return params[START] + sum(params[BY_PROFILE][value] for value in profile if value)


def steps_by_hand(
    params: Params, items: list[int], likings: list[float], profile: list[int]
) -> torch.Tensor:
    """Return a user's vector after gradient steps that autograd takes of the inner loss itself."""
    user, before = params[START], started_by_hand(params, profile) - params[START]
    lags = params[LAG]
    weights = [
        lags[min(len(items) - 1 - place, len(lags) - 1)].exp() * (1 + params[LIKING] * liking)
        for place, liking in enumerate(likings)
    ]
    prior = torch.nn.functional.softplus(params[PRIOR_ROWS])
    for log_rate in params[LOG_RATES]:
        at = user.detach().requires_grad_()
        loss = at.sum() * 0
        for item, weight in zip(items, weights, strict=True):
            scores = params[POPULARITY] + params[EXPLAINS] @ at
            loss = loss - weight * scores.log_softmax(0)[item]
        (slope,) = torch.autograd.grad(loss, at)
        # The profile joins with the first step.
        user = user + before - log_rate.exp() * slope / (len(items) + prior).sqrt()
        before = torch.zeros_like(before)
    return user


@pytest.mark.parametrize("num_steps", [1, 3])
def test_users_adapt_by_gradient_steps_on_the_likelihood_of_their_rows(num_steps: int) -> None:
    head = some_head(num_steps)
    users = head.adapt(ITEM_BS, LIKING_BS, MASK_BS, PROFILE_BW)
    for user, mask in enumerate(MASK_BS):
        items, likings = ITEM_BS[user][mask].tolist(), LIKING_BS[user][mask].tolist()
        expected = steps_by_hand(head.params, items, likings, PROFILE_BW[user].tolist())
        torch.testing.assert_close(users[user], expected)
    torch.testing.assert_close(users[2], started_by_hand(head.params, [4, 3]))


@pytest.mark.parametrize("num_steps", [1, 3])
def test_users_without_a_profile_begin_alike(num_steps: int) -> None:
    head = some_head(num_steps)
    unknown = head.adapt(ITEM_BS, LIKING_BS, MASK_BS, torch.zeros_like(PROFILE_BW))
    absent = head.adapt(ITEM_BS, LIKING_BS, MASK_BS, PROFILE_BW[:, :0])
    params = {name: p for name, p in head.params.items() if name != BY_PROFILE}
    earlier = dataclasses.replace(head, params=params)
    torch.testing.assert_close(unknown, absent)
    torch.testing.assert_close(earlier.adapt(ITEM_BS, LIKING_BS, MASK_BS, PROFILE_BW), absent)


def test_padding_and_neighbours_in_the_batch_change_nothing() -> None:
    head = some_head(2)
    alone = head.adapt(ITEM_BS[1:2, :1], LIKING_BS[1:2, :1], MASK_BS[1:2, :1], PROFILE_BW[1:2])
    torch.testing.assert_close(head.adapt(ITEM_BS, LIKING_BS, MASK_BS, PROFILE_BW)[1:2], alone)


def test_of_many_rows_the_newest_count() -> None:
    head = dataclasses.replace(some_head(2), most_rows=2)
    users = head.adapt(ITEM_BS[:1], LIKING_BS[:1], MASK_BS[:1], NO_PROFILE)
    newest = head.adapt(ITEM_BS[:1, 2:], LIKING_BS[:1, 2:], MASK_BS[:1, 2:], NO_PROFILE)
    torch.testing.assert_close(users, newest)


def test_many_rows_without_order_count_as_much_as_a_few() -> None:
    params = {**some_head(2).params, LAG: torch.zeros(1, dtype=torch.float64)}
    head = ChoiceHead(params=params, in_order=False, most_rows=2)
    twice = torch.tensor([[3, 7, 3, 7]])
    liking, mask = torch.zeros((1, 4), dtype=torch.float64), torch.ones((1, 4), dtype=torch.bool)
    users = head.adapt(twice, liking, mask, NO_PROFILE)
    torch.testing.assert_close(
        users, head.adapt(twice[:, :2], liking[:, :2], mask[:, :2], NO_PROFILE)
    )


def test_who_knows_every_item_is_asked_nothing() -> None:
    params = some_head(1).params
    everything = torch.arange(NUM_ITEMS)[None]
    episodes = Episodes(
        everything,
        torch.zeros(everything.shape, dtype=torch.float64),
        torch.ones(everything.shape, dtype=torch.bool),
        torch.tensor([[4]]),
        torch.tensor([[True]]),
        PROFILE_BW[:1],
    )
    config = ChoiceConfig(num_factors=NUM_FACTORS, dropout=0.0)
    gradients, loss = meta_gradient(params, episodes, config, torch.Generator())
    assert loss == 0
    assert all(not gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize("num_steps", [1, 2])
def test_an_effect_is_what_the_scores_lose_without_the_row(num_steps: int) -> None:
    head = some_head(num_steps)
    target_Bk = torch.tensor([[2, 8], [0, 1], [3, 4]])
    effects = head.effects(ITEM_BS, LIKING_BS, MASK_BS, PROFILE_BW, target_Bk)
    items, likings = ITEM_BS[0].tolist(), LIKING_BS[0].tolist()
    profile = PROFILE_BW[0].tolist()
    whole = steps_by_hand(head.params, items, likings, profile)
    for place in range(4):
        rest = (
            [items[i] for i in range(4) if i != place],
            [likings[i] for i in range(4) if i != place],
        )
        left = whole - steps_by_hand(head.params, *rest, profile)
        change = head.params[PREDICTS][target_Bk[0]] @ left
        torch.testing.assert_close(effects[0, place], change)
    assert not effects[1, 1:].any()
    assert not effects[2].any()


def loss_by_hand(params: Params) -> torch.Tensor:
    """Return the episodes' mean loss, user by user and step by step."""
    total = torch.zeros((), dtype=torch.float64)
    for user, mask in enumerate(MASK_BS):
        items, likings = ITEM_BS[user][mask].tolist(), LIKING_BS[user][mask]
        vector = params[START]
        before = started_by_hand(params, PROFILE_BW[user].tolist()) - vector
        ages = [min(len(items) - 1 - place, len(params[LAG]) - 1) for place in range(len(items))]
        weights = params[LAG][ages].exp() * (1 + params[LIKING] * likings)
        prior = torch.nn.functional.softplus(params[PRIOR_ROWS])
        for log_rate in params[LOG_RATES]:
            share = (params[POPULARITY] + params[EXPLAINS] @ vector).softmax(0)
            mean = share @ params[EXPLAINS]
            pull = sum(
                w * (params[EXPLAINS][i] - mean) for i, w in zip(items, weights, strict=True)
            )
            vector = vector + before + log_rate.exp() * pull / (len(items) + prior).sqrt()
            before = torch.zeros_like(before)
        scores = params[POPULARITY] + params[PREDICTS] @ vector
        unknown = [item for item in range(NUM_ITEMS) if item not in items]
        asked = [i for i in NEXT_BQ[user][NEXT_MASK_BQ[user]].tolist() if i not in items]
        total = total - (scores[asked] - scores[unknown].logsumexp(0)).mean()
    return total / len(MASK_BS)


@pytest.mark.parametrize("num_steps", [1, 3])
def test_the_gradient_goes_through_the_steps_exactly(num_steps: int) -> None:
    params = some_head(num_steps).params
    leaves = {name: p.clone().requires_grad_() for name, p in params.items() if name != UNMET}
    expected = torch.autograd.grad(loss_by_hand(leaves), list(leaves.values()))
    episodes = Episodes(ITEM_BS, LIKING_BS, MASK_BS, NEXT_BQ, NEXT_MASK_BQ, PROFILE_BW)
    config = ChoiceConfig(num_factors=NUM_FACTORS, num_steps=num_steps, dropout=0.0)
    found, loss = meta_gradient(params, episodes, config, torch.Generator().manual_seed(0))
    assert loss == pytest.approx(float(loss_by_hand(params)), rel=1e-10)
    for name, gradient in zip(leaves, expected, strict=True):
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)
        assert found[name].abs().max() > 0, name


@pytest.mark.parametrize("num_steps", [1, 3])
def test_passes_are_compared_at_the_best_sharpness(num_steps: int) -> None:
    head = some_head(num_steps)
    episodes = Episodes(ITEM_BS, LIKING_BS, MASK_BS, NEXT_BQ, NEXT_MASK_BQ, PROFILE_BW)
    by_hand = [
        float(loss_by_hand({**head.params, PREDICTS: sharpness * head.params[PREDICTS]}))
        for sharpness in SHARPNESS
    ]
    assert mean_loss(head, episodes) == pytest.approx(min(by_hand), rel=1e-10)


def test_a_sample_of_the_catalogue_estimates_the_gradient() -> None:
    params = some_head(1).params
    episodes = Episodes(ITEM_BS, LIKING_BS, MASK_BS, NEXT_BQ, NEXT_MASK_BQ, PROFILE_BW)
    whole = ChoiceConfig(num_factors=NUM_FACTORS, dropout=0.0)
    sampled = dataclasses.replace(whole, catalogue_sample=8)
    expected, _ = meta_gradient(params, episodes, whole, torch.Generator())
    generator = torch.Generator().manual_seed(1)
    found = [meta_gradient(params, episodes, sampled, generator)[0] for _ in range(60)]
    mean = torch.stack([gradients[START] for gradients in found]).mean(0)
    error = (mean - expected[START]).norm() / expected[START].norm()
    assert error < 0.2, "the importance-weighted softmax is nearly unbiased"


def in_threads(num_threads: int) -> Params:
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        generator = np.random.default_rng(0)
        items = [generator.permutation(40)[:12].tolist() for _ in range(90)]
        rows = Ragged.from_lists(items, [[1.0] * 12 for _ in items])
        config = ChoiceConfig(num_factors=8, epochs=1, batch_size=96)
        codes = torch.from_numpy(generator.integers(0, 6, (90, 2)))
        profiles, device = Profiles(codes, NO_PROFILE, 6), torch.device("cpu")
        return meta_learned(
            ChoiceData(
                rows=rows,
                judges=None,
                profiles=profiles,
                num_items=40,
                value_range=None,
                in_order=True,
                num_next=4,
            ),
            config,
            0,
            device,
        ).params
    finally:
        torch.set_num_threads(before)


def test_any_number_of_threads_gives_the_same_bits() -> None:
    one = in_threads(1)
    for num_threads in (2, 3):
        for name, found in in_threads(num_threads).items():
            assert torch.equal(found, one[name]), (num_threads, name)


def without_profiles(num_users: int, num_judged: int = 0) -> Profiles:
    return Profiles(NO_PROFILE.expand(num_users, 0), NO_PROFILE.expand(num_judged, 0), 1)


def unnamed_tasks(support: Ragged, query: Ragged) -> Tasks:
    """Return tasks of users of whom only the rows are known."""
    num = len(support)
    profile = pa.table({"user_id": [str(n) for n in range(num)]})
    zeros = np.zeros(num, np.int64)
    state = np.full(num, "user_cold")
    return Tasks(profile, zeros, zeros.astype(np.int32), state, support, query)


def ordered(
    items: list[list[int]],
    values: list[list[float]],
    num_items: int = 30,
    judges: Tasks | None = None,
) -> ChoiceData:
    """Return users in the order of time, of whom only the rows are known."""
    return ChoiceData(
        rows=Ragged.from_lists(items, values),
        judges=judges,
        profiles=without_profiles(len(items), 0 if judges is None else len(judges)),
        num_items=num_items,
        value_range=None,
        in_order=True,
        num_next=2,
    )


def cyclic_log(num_users: int, seed: int) -> tuple[list[list[int]], list[list[float]]]:
    """Return users who walk through a circle of items, each from a place of their own."""
    first = np.random.default_rng(seed).integers(0, 30, num_users)
    items = [((start + np.arange(10)) % 30).tolist() for start in first]
    return items, [[1.0] * 10 for _ in items]


def test_what_comes_next_is_learned() -> None:
    items, values = cyclic_log(200, 0)
    config = ChoiceConfig(num_factors=16, epochs=4)
    head = meta_learned(
        ordered(items, values),
        config,
        0,
        torch.device("cpu"),
    )
    known, nothing = torch.tensor([[4, 5, 6]]), torch.zeros((1, 3))
    scores = head.scores(
        head.adapt(known, nothing, torch.ones((1, 3), dtype=torch.bool), NO_PROFILE)
    )[0]
    scores[known[0]] = -torch.inf
    assert set(scores.topk(2).indices.tolist()) == {7, 8}, "not what came before"


def test_whom_a_profile_stands_for_is_learned() -> None:
    """Without any row, those of one city are told from those of another by what each city takes."""
    generator = np.random.default_rng(0)
    city = np.arange(160) % 2
    items = [(15 * here + generator.permutation(15)[:8]).tolist() for here in city]
    head = meta_learned(
        ChoiceData(
            rows=Ragged.from_lists(items, [[1.0] * 8 for _ in items]),
            judges=None,
            profiles=Profiles(torch.from_numpy(city + 1)[:, None], NO_PROFILE, 3),
            num_items=30,
            value_range=None,
            in_order=False,
            num_next=2,
        ),
        ChoiceConfig(num_factors=8, epochs=8, learning_rate=1e-2),
        0,
        torch.device("cpu"),
    )
    nothing = torch.zeros((2, 1))
    users = head.adapt(nothing.long(), nothing, nothing.bool(), torch.tensor([[1], [2]]))
    share = head.scores(users).softmax(1)
    assert float(share[0, :15].sum()) > 0.9
    assert float(share[1, 15:].sum()) > 0.9


def test_training_stops_where_development_users_are_likeliest() -> None:
    items, values = cyclic_log(60, 0)
    forth, back = [[3, 4], [17, 18], [9, 10]], [[5, 6], [19, 20], [11, 12]]
    ones = [[1.0, 1.0]] * 3
    agreeing = unnamed_tasks(Ragged.from_lists(forth, ones), Ragged.from_lists(back, ones))
    # What they take is as far from what is learned as can be.
    contrary = unnamed_tasks(
        Ragged.from_lists(forth, ones), Ragged.from_lists([[20, 22], [2, 1], [26, 28]], ones)
    )
    config = ChoiceConfig(num_factors=8, epochs=6, patience=2)
    epochs = [
        meta_learned(
            ordered(items, values, judges=development),
            config,
            0,
            torch.device("cpu"),
        ).epochs
        for development in (agreeing, contrary)
    ]
    assert epochs[0] >= 3
    assert epochs[1] <= 1


def test_no_passes_are_none() -> None:
    """A refit takes as many as were best, which may be none."""
    items, values = cyclic_log(20, 0)
    head = meta_learned(
        ordered(items, values),
        ChoiceConfig(num_factors=4, epochs=5),
        0,
        torch.device("cpu"),
        epochs=0,
    )
    assert head.epochs == 0
    assert not head.params[START].any()


def test_a_new_item_is_as_one_that_nobody_took() -> None:
    items, values = cyclic_log(200, 0)
    head = meta_learned(
        ordered(items, values, num_items=32),
        ChoiceConfig(num_factors=4, epochs=2),
        0,
        torch.device("cpu"),
    )
    popularity = head.on(np.arange(32), 33).params[POPULARITY]
    torch.testing.assert_close(popularity[32], popularity[30:32].mean())
    assert popularity[32] < popularity[:30].min()


def test_another_catalogue_has_the_same_items_in_other_places() -> None:
    head = some_head(1)
    number_I = np.array([5, 3, -1, 0, 1, 2, 4, 6, 7, 8, 9, 10])
    moved = head.on(number_I, 14)
    users = head.adapt(ITEM_BS, LIKING_BS, MASK_BS, PROFILE_BW)
    scores, elsewhere = head.scores(users), moved.scores(users)
    kept = number_I >= 0
    torch.testing.assert_close(elsewhere[:, number_I[kept]], scores[:, torch.from_numpy(kept)])
    new = [i for i in range(14) if i not in number_I]
    assert (elsewhere[:, new] == head.params[UNMET]).all()


def list_head(choices: ChoiceHead) -> ListHead:
    params = {name: p.float() for name, p in choices.params.items()}
    return ListHead(
        columns=(LEARNER, CHOICES),
        weight_KC=torch.tensor([[1.0, 2.0]]).expand(len(KNOTS), -1).contiguous(),
        count_I=torch.zeros(NUM_ITEMS),
        choices=dataclasses.replace(choices, params=params),
        value_range=(1.0, 5.0),
    )


def test_lists_add_the_log_odds_and_are_saved_with_them() -> None:
    head = list_head(some_head(1))
    support = Ragged.from_lists([[3, 7], []], [[5.0, 2.0], []])
    state = head.state(support, NO_PROFILE.expand(2, 0))
    learner_BR = torch.tensor([[0.1] * NUM_ITEMS, [0.2] * NUM_ITEMS])
    scores = head.scores(head.settle(state), learner_BR, torch.arange(NUM_ITEMS))
    assert head.choices is not None
    params = {name: p.double() for name, p in head.choices.params.items()}
    user = steps_by_hand(params, [3, 7], [1.0, -0.5], [])
    expected = 0.1 + 2 * (params[POPULARITY] + params[PREDICTS] @ user)
    torch.testing.assert_close(scores[0].double(), expected, rtol=1e-4, atol=1e-4)
    again = ListHead.from_saved(head.about(), head.tensors(), torch.device("cpu"))
    assert torch.equal(
        again.scores(again.settle(state), learner_BR, torch.arange(NUM_ITEMS)), scores
    )
