"""Synthetic logs of every kind that the prior is to know: sizes, tastes, fashions, scales.

Each log has a structure of its own, drawn before its rows are:

    log p(u takes i at time t) = a_i + fashion_i(t) + β x_u · y_i + const,   without replacement
    value_ui = mean + b_u + q_i + γ x_u · y_i + ε,                           rounded to a scale

with popularity a_i that falls by a power of the item's rank, tastes x_u and properties y_i around
the centres of some clusters, and fashions that pass. A user's rows are drawn at once by perturbing
the log-probabilities (Gumbel top-k: Kool, van Hoof, Welling, ICML 2019).

Legend: U users, I items, G clusters, d dimensions of taste, T times, L rows of a user.
"""

import dataclasses

import numpy as np

from recmeta.tasks.arrays import BoolArray, Float64Array, IntArray

MOST_CELLS = 6_000_000
"""The most pairs of user and item of a log, each of which a number is drawn for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawnLog:
    """Rows of a log, sorted by user, then in the order in which the user gave them."""

    user: IntArray
    """(N,)"""
    item: IntArray
    """(N,) from 0."""
    value: Float64Array
    """(N,) 1 where feedback is implicit."""
    time_U: Float64Array
    """(U,) when the user came, from 0 to 1."""
    num_items: int
    is_graded: bool
    has_times: bool


def draw_log(generator: np.random.Generator) -> DrawnLog:
    """Return a log whose structure and rows are drawn."""
    rng = generator
    num_items = int(np.exp(rng.uniform(np.log(60), np.log(4_000))))
    rows_per_user = float(np.exp(rng.uniform(np.log(6), np.log(100))))
    num_rows = float(np.exp(rng.uniform(np.log(150), np.log(100_000))))
    num_users = int(np.clip(num_rows / rows_per_user, 4, MOST_CELLS // num_items)) + 40
    length_U = _lengths(rng, num_users, rows_per_user, num_items)
    time_U = np.sort(rng.random(num_users))
    similarity_UI = _similarities(rng, num_users, num_items)
    popularity_I = _popularities(rng, num_items)
    quality_I = rng.standard_normal(num_items)
    follows = rng.uniform(0.0, 0.7)
    quality_I = follows * _standardised(popularity_I) + np.sqrt(1 - follows**2) * quality_I
    logit_UI = popularity_I + _fashions(rng, time_U, num_items)
    logit_UI += rng.uniform(0.3, 4.0) * similarity_UI
    gumbel_UI = rng.gumbel(size=logit_UI.shape)
    most = int(length_U.max())
    taken_UL = np.argpartition(-(logit_UI + gumbel_UI), most - 1, axis=1)[:, :most]
    score_UL = np.take_along_axis(logit_UI + gumbel_UI, taken_UL, 1)
    # The best `length` items of each user, in an order that need not be that of their scores.
    best_UL = np.argsort(-score_UL, axis=1)
    taken_UL = np.take_along_axis(taken_UL, best_UL, 1)
    place_UL = np.broadcast_to(np.arange(most), taken_UL.shape)
    disorder = rng.choice([0.0, 0.3, 1.0, 10.0])
    late_UL = place_UL / length_U[:, None] + disorder * rng.random(taken_UL.shape)
    late_UL = np.where(place_UL < length_U[:, None], late_UL, np.inf)
    taken_UL = np.take_along_axis(taken_UL, np.argsort(late_UL, axis=1), 1)
    is_row_UL = place_UL < length_U[:, None]
    user = np.nonzero(is_row_UL)[0]
    item = taken_UL[is_row_UL]
    is_graded = bool(rng.random() < 0.5)
    value = np.ones(len(item))
    if is_graded:
        value = _values(rng, user, item, quality_I, similarity_UI)
    return DrawnLog(
        user=user,
        item=item,
        value=value,
        time_U=time_U,
        num_items=num_items,
        is_graded=is_graded and len(np.unique(value)) > 1,
        has_times=bool(rng.random() < 0.7),
    )


def _lengths(
    rng: np.random.Generator, num_users: int, rows_per_user: float, num_items: int
) -> IntArray:
    """Return (U,) how many rows each user has: log-normal around their mean."""
    length_U = rows_per_user * np.exp(rng.uniform(0.0, 1.0) * rng.standard_normal(num_users))
    return np.clip(length_U, 2, max(2, num_items // 3)).astype(np.int64)


def _similarities(rng: np.random.Generator, num_users: int, num_items: int) -> Float64Array:
    """Return (U, I) how much users' tastes and items' properties have in common: of all pairs the
    variance is 1."""
    drawn = _of_topics if rng.random() < 0.5 else _of_clusters
    found_UI = drawn(rng, num_users, num_items)
    centred_UI: Float64Array = (found_UI - found_UI.mean(0)) / max(float(found_UI.std()), 1e-9)
    return centred_UI


def _of_topics(rng: np.random.Generator, num_users: int, num_items: int) -> Float64Array:
    """Return (U, I) the logarithm of how much the users are for the items' topics, a few of many
    (latent Dirichlet allocation: Blei, Ng, Jordan, JMLR 2003): niches, which few users know."""
    num_topics = int(np.exp(rng.uniform(np.log(3), np.log(200))))
    share_G = rng.dirichlet(np.full(num_topics, rng.uniform(0.5, 5.0)))
    user_UG = _sparse_shares(rng, num_users, share_G, int(rng.integers(1, 6)))
    item_IG = _sparse_shares(rng, num_items, share_G, int(rng.integers(1, 4)))
    found_UI: Float64Array = np.log(
        user_UG @ (item_IG / (share_G + 1e-3)).T + rng.uniform(0.02, 1.0)
    )
    return found_UI


def _sparse_shares(
    rng: np.random.Generator, num: int, share_G: Float64Array, num_mixed: int
) -> Float64Array:
    """Return (num, G) mixtures of some topics each."""
    topic = rng.choice(len(share_G), size=(num, num_mixed), p=share_G)
    found = np.zeros((num, len(share_G)))
    np.add.at(found, (np.arange(num)[:, None], topic), rng.dirichlet(np.ones(num_mixed), size=num))
    return found


def _of_clusters(rng: np.random.Generator, num_users: int, num_items: int) -> Float64Array:
    """Return (U, I) the products of tastes and properties that lie around the centres of
    clusters."""
    num_dims = int(rng.integers(1, 20))
    num_clusters = int(np.exp(rng.uniform(np.log(2), np.log(60))))
    spread = rng.uniform(0.1, 1.5)
    centre_Gd = rng.standard_normal((num_clusters, num_dims))
    scale_d = np.exp(-rng.uniform(0.0, 0.3) * np.arange(num_dims))
    share_G = rng.dirichlet(np.full(num_clusters, rng.uniform(0.3, 3.0)))

    def drawn(num: int, num_mixed: int) -> Float64Array:
        cluster = rng.choice(num_clusters, size=(num, num_mixed), p=share_G)
        weight = rng.dirichlet(np.ones(num_mixed), size=num)
        mixed = np.einsum("nm,nmd->nd", weight, centre_Gd[cluster])
        vector_Nd: Float64Array = (mixed + spread * rng.standard_normal((num, num_dims))) * scale_d
        return vector_Nd

    user_Ud = drawn(num_users, int(rng.integers(1, 4)))
    item_Id = drawn(num_items, int(rng.integers(1, 3)))
    found_UI: Float64Array = user_Ud @ item_Id.T
    return found_UI


def _popularities(rng: np.random.Generator, num_items: int) -> Float64Array:
    """Return (I,) log-popularities: a power law, with noise, that flattens at its head."""
    rank_I = rng.permutation(num_items) + rng.uniform(1.0, 0.05 * num_items + 2)
    noise_I = rng.uniform(0.0, 0.5) * rng.standard_normal(num_items)
    found_I: Float64Array = -rng.uniform(0.3, 1.6) * np.log(rank_I) + noise_I
    return found_I


def _fashions(rng: np.random.Generator, time_U: Float64Array, num_items: int) -> Float64Array:
    """Return (U, I) what passes of items' log-popularity: they come, and grow old."""
    strength = rng.choice([0.0, rng.uniform(0.0, 1.0), rng.uniform(1.0, 4.0)])
    if strength == 0:
        return np.zeros((len(time_U), num_items))
    from_I = rng.uniform(-2.0, 1.0, num_items)
    life_I = np.exp(rng.uniform(np.log(0.1), np.log(2.0), num_items))
    age_UI = time_U[:, None] - from_I
    found_UI: Float64Array = -strength * np.minimum(age_UI / life_I, 2.0)
    if rng.random() < 0.5:  # nobody takes what has not come
        found_UI[age_UI < 0] = -8.0
    return found_UI


def _values(
    rng: np.random.Generator,
    user: IntArray,
    item: IntArray,
    quality_I: Float64Array,
    similarity_UI: Float64Array,
) -> Float64Array:
    """Return (N,) ratings on a scale of some levels."""
    bias_U = rng.uniform(0.1, 0.7) * rng.standard_normal(len(similarity_UI))
    value = rng.uniform(0.1, 0.8) * quality_I[item] + bias_U[user]
    value += rng.uniform(0.1, 0.8) * similarity_UI[user, item]
    value += rng.uniform(0.3, 1.2) * rng.standard_normal(len(user))
    num_levels = int(rng.choice([2, 3, 5, 5, 5, 10, 10]))
    standard = (value - value.mean()) / max(float(value.std()), 1e-9)
    levels = np.round(rng.uniform(0.4, 0.8) * num_levels + num_levels / 4.5 * standard)
    found: Float64Array = np.clip(levels, 1, num_levels)
    return found


def _standardised(values: Float64Array) -> Float64Array:
    found: Float64Array = (values - values.mean()) / max(float(values.std()), 1e-9)
    return found


def held_out(log: DrawnLog, generator: np.random.Generator) -> BoolArray:
    """Return (U,) users who are not part of the log that the network reads: of a log with times
    those who came last, else any; as many as four in ten of the smallest, 32 at most."""
    num_users = len(log.time_U)
    num_held = min(32, max(1, int(0.4 * num_users)))
    order = np.argsort(log.time_U) if log.has_times else generator.permutation(num_users)
    found = np.zeros(num_users, np.bool_)
    found[order[-num_held:]] = True
    return found
