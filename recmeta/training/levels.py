"""Learning the probability of each level of a scale, from the ratings of development users.

Biases and similarities of items come from the training users' rows; the coefficients of a
`LevelHead` maximise the mean over development users of the log-likelihood of their ratings. Each
user counts the same. Half of the weight is on predictions of the query from the whole support, and
half on predictions of all later rows from the first 0, 1, 3 or 10 rows. A ridge shrinks the
distribution to one around the learner's own mean, with the learner's own spread. Fisher scoring
finds the maximum (McCullagh, JRSS B 1980). Whether and how neighbours are counted, and whether
there is a head, is decided between halves of the development users: a more complex choice must be
better by more than a standard error of the difference.

Legend: B users, N rows, L levels, T = L − 1 thresholds, P parameters, C inputs, J items with
neighbours.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from recmeta.evaluation.baseline_parts.neighbourhood import KnownItems, co_occurrences, gram
from recmeta.evaluation.baseline_parts.rows import training_rows
from recmeta.evaluation.baselines.averages.item_mean_user_bias import BiasConfig, ItemMeanUserBias
from recmeta.evaluation.baselines.item_to_item.ease import residuals
from recmeta.evaluation.calibration import SHOTS
from recmeta.metalearn.heads.levels import (
    INPUTS,
    LEARNED,
    LOCATION,
    LOG_USERS,
    SCALE,
    LevelHead,
    cumulative,
    designs,
    width,
    without_item,
)
from recmeta.metalearn.heads.median import count_levels
from recmeta.metalearn.heads.neighbours import Neighbours, most_similar
from recmeta.metalearn.heads.uncertainty import fit_line
from recmeta.metalearn.model import Model
from recmeta.metalearn.numerics.newton import minimised
from recmeta.metalearn.scorer import Scorer
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Tasks, TaskSet
from recmeta.training.standard_error import is_as_good, simplest_of_best

FEWEST_USERS = 30
"""With fewer development users there is nothing to learn coefficients from."""
MOST_USERS = 1000
"""The most development users from whom coefficients are learned."""
MOST_TRAINING_USERS = 100_000
"""The most training users from whom similarities of items are counted, which takes a product of
matrices for every thousand of them."""
USER_REGULARISATION = 20.0
"""The shrinkage of the users' biases: with it, the residuals of a user with few rows keep most of
the user's deviation from others, and items that are rated high together are similar."""
NUM_NEIGHBOURS = 100
"""K, the most neighbours of an item."""
SHRINKAGES = (50.0, 10.0)
"""The candidates, the simplest first: a similarity that n users support is multiplied by n / (n +
this)."""
DAMPING = 0.5
"""Added to the sum of similarities in the denominator of a vote, so that weak similarities give a
weak vote. The coefficient of votes is learned, so that halving or doubling this changes almost
nothing."""
RIDGE = 0.2
"""The penalty, divided by the number of users, on squared distances from the learner's own mean."""
NUM_FOLDS = 2
USERS_AT_ONCE = 256
ROWS_AT_ONCE = 2**14
LEAST_SHARE = 1e-9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rated:
    """Ratings of users with a number of known rows, and the learner's predictions."""

    inputs_NC: Float64Array
    """For `LevelHead.shares`."""
    level_N: IntArray
    """From 0."""
    value_N: Float64Array
    raw_N: Float64Array
    """The learner's means, in units of the value."""
    median_N: Float64Array
    """The learner's predictions, which are medians for some learners."""
    user_N: IntArray
    """The users' positions among the development users."""
    weight_N: Float64Array
    """The weights of a user's rows sum to 1 if the whole support is known; those with a part of it
    known sum to another 1."""

    def of_users(self, is_of_B: np.ndarray) -> "Rated":
        """Return the ratings of some users."""
        here_N = is_of_B[self.user_N]
        fields = {f.name: getattr(self, f.name)[here_N] for f in dataclasses.fields(self)}
        return Rated(**fields)

    def with_votes(self, vote_N: Float64Array) -> "Rated":
        """Return the same ratings with other votes."""
        inputs_NC = self.inputs_NC.copy()
        inputs_NC[:, INPUTS.index("vote")] = vote_N
        return dataclasses.replace(self, inputs_NC=inputs_NC)

    def by_user(self, loss_N: Float64Array, num_users: int) -> Float64Array:
        """Return (B,) each user's weighted sum of a loss."""
        found = np.bincount(self.user_N, self.weight_N * loss_N, minlength=num_users)
        return found.astype(np.float64)


def learn_levels(model: Model, task_set: TaskSet, seed: int) -> LevelHead | None:
    """Return the level head of a trained model. None for implicit feedback, for a scale without
    levels, for too few development users, and if it is no better than the learner alone.

    Args:
        seed: draws the users if there are more than `MOST_USERS` or `MOST_TRAINING_USERS`.
    """
    spec, development = task_set.spec, task_set.tasks("dev")
    if spec.objective != "rating" or len(development) < FEWEST_USERS:
        return None
    train = task_set.tasks("train")
    num_levels = count_levels(training_rows(train).value, spec.value_range)
    if num_levels is None:
        return None
    if len(development) > MOST_USERS:
        drawn = np.random.default_rng(seed).choice(len(development), MOST_USERS, replace=False)
        development = development.take(np.sort(drawn))
    biases = ItemMeanUserBias.fit(
        train, spec.num_items, spec.value_range, BiasConfig(user_regularisation=USER_REGULARISATION)
    )
    low, high = spec.value_range
    step = (high - low) / (num_levels - 1)
    middle = (model.encoder.value_mean - low) / step
    threshold_T = torch.arange(num_levels - 1, dtype=torch.float64) + 0.5 - middle
    location_F = torch.tensor([name == "mean" for name in LOCATION], dtype=torch.float64)
    scale_G = torch.tensor([name == "log_spread" for name in SCALE], dtype=torch.float64)
    start = LevelHead(
        lowest=low,
        step=step,
        threshold_T=threshold_T,
        location_F=location_F,
        scale_G=scale_G,
        new_threshold_T=threshold_T,
        new_location_F=location_F,
        new_scale_G=scale_G,
        bound_2C=torch.zeros((2, len(INPUTS)), dtype=torch.float64),
        mean=model.encoder.value_mean,
        deviation=model.encoder.value_scale,
        user_regularisation=biases.config.user_regularisation,
        damping=DAMPING,
        bias_J=torch.from_numpy(biases.item_bias.astype(np.float32)),
        similar=_no_neighbours(spec.num_items),
        place_I=torch.arange(spec.num_items),
    )
    shown = list(_shown(development))
    without = _rated(model, start, development, shown)
    num_users = len(development)
    candidates = [(start, without)]
    held_out = [_held_out(start, without, num_users)]
    for similar in _tables(train, biases, spec.num_items, seed):
        head = dataclasses.replace(start, similar=similar)
        candidates.append((head, without.with_votes(_votes(head, shown))))
        held_out.append(_held_out(*candidates[-1], num_users))
    chosen = simplest_of_best([found.loss_B for found in held_out])
    if not held_out[chosen].is_better:
        return None
    head, rated = candidates[chosen]
    return _with_new_items(_fitted(head, rated), head, rated)


# Neighbours and their votes
# -------------------------------------------------------------------------


def _no_neighbours(num_items: int) -> Neighbours:
    """Return a table in which no item has neighbours."""
    empty = torch.zeros(0, dtype=torch.int64)
    return Neighbours(torch.zeros(num_items + 1, dtype=torch.int64), empty, torch.zeros(0))


def _tables(
    train: Tasks, biases: ItemMeanUserBias, num_items: int, seed: int
) -> Iterator[Neighbours]:
    """Yield tables of similar items: cosines of residuals after the biases, shrunk by each of
    `SHRINKAGES`.

    Args:
        seed: of the training users, where there are many.
    """
    rows = training_rows(train)
    if len(rows) > MOST_TRAINING_USERS:
        drawn = np.random.default_rng(seed).choice(len(rows), MOST_TRAINING_USERS, replace=False)
        rows = rows.take(np.sort(drawn))
    known = KnownItems.of(rows, num_items)
    both_JJ = co_occurrences(known, rows)
    cosine_JJ = gram(known, rows, residuals(rows, biases))
    norm_J = cosine_JJ.diagonal().clamp(min=1e-12).sqrt()
    cosine_JJ = cosine_JJ / norm_J / norm_J[:, None]
    for shrinkage in SHRINKAGES:
        shrunk_JJ = cosine_JJ * (both_JJ / (both_JJ + shrinkage))
        yield most_similar(shrunk_JJ, known.item_J, num_items, NUM_NEIGHBOURS)


def _shown(development: Tasks) -> Iterator[tuple[Tasks, IntArray]]:
    """Yield the users with their first rows as support and all later ones as query, then with their
    whole support, each with the users' positions."""
    longest_B = development.support.lengths
    for num_shots in SHOTS:
        users = np.flatnonzero(longest_B > num_shots)
        if len(users):
            some = development.take(users)
            later = some.support.select(some.support.position >= num_shots)
            some = dataclasses.replace(some, query=later.followed_by(some.query))
            yield some.with_shots(num_shots), users
    yield development, np.arange(len(development))


def _votes(head: LevelHead, shown: Sequence[tuple[Tasks, IntArray]]) -> Float64Array:
    """Return (N,) the votes of a head for the query rows."""
    parts = []
    for tasks, _ in shown:
        for some in tasks.batches(USERS_AT_ONCE):
            mask_BR = some.query.mask
            number_BR = np.zeros(mask_BR.shape, np.int64)
            number_BR[mask_BR] = some.query.item
            vote_BR = head.votes(head.state(some.support), torch.from_numpy(number_BR))
            parts.append(vote_BR[mask_BR])
    return np.concatenate(parts)


def _rated(
    model: Model, head: LevelHead, development: Tasks, shown: Sequence[tuple[Tasks, IntArray]]
) -> Rated:
    """Return the ratings of users, given the known part of their rows."""
    scorer = Scorer.of(model)
    parts: dict[str, list[np.ndarray]] = {f.name: [] for f in dataclasses.fields(Rated)}
    num_parts = np.zeros(len(development))
    for _, users in shown[:-1]:
        num_parts[users] += 1
    for place, (tasks, users) in enumerate(shown):
        for first in range(0, len(tasks), USERS_AT_ONCE):
            some = tasks.take(np.arange(first, min(first + USERS_AT_ONCE, len(tasks))))
            rows = scorer.rows(some.query, some)
            predicted = scorer.predict(scorer.adapt(some), rows)
            mask_BR = some.query.mask
            parts["inputs_NC"].append(
                scorer.level_inputs(head, head.state(some.support), predicted, rows)[mask_BR]
            )
            parts["raw_N"].append(model.units.unclipped(predicted.ranked_by_BR)[mask_BR])
            parts["median_N"].append(model.units.to_values(predicted.mean_BR)[mask_BR])
            parts["value_N"].append(some.query.value)
            user_N = users[some.query.task + first]
            parts["user_N"].append(user_N)
            share_N = 1.0 / some.query.lengths[some.query.task]
            is_whole = place == len(shown) - 1
            parts["weight_N"].append(share_N if is_whole else share_N / num_parts[user_N])
    joined = {name: np.concatenate(some) for name, some in parts.items() if name != "level_N"}
    level_N = np.rint((joined["value_N"] - head.lowest) / head.step).astype(np.int64)
    level_N = level_N.clip(0, head.num_levels - 1)
    floats = {name: v.astype(np.float64) for name, v in joined.items() if name != "user_N"}
    return Rated(level_N=level_N, user_N=joined["user_N"], **floats)


# Coefficients ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class _HeldOut:
    """The losses and errors of users under coefficients that were learned from the other users."""

    loss_B: Float64Array
    """The negative log-likelihoods of the distributions."""
    errors: list[Float64Array]
    """(B,) the absolute errors of the medians, and the squared ones of the means."""
    own_errors: list[Float64Array]
    """The errors of the learner alone, with its means on a line that was learned from the other
    users."""

    @property
    def is_better(self) -> bool:
        """Whether one error is less than the learner's own by more than a standard error, and none
        is more by one."""
        pairs = list(zip(self.errors, self.own_errors, strict=True))
        return any(not is_as_good(own_B, error_B) for error_B, own_B in pairs) and all(
            is_as_good(error_B, own_B) for error_B, own_B in pairs
        )


def _held_out(head: LevelHead, rated: Rated, num_users: int) -> _HeldOut:
    fold_B = np.arange(num_users) % NUM_FOLDS
    loss_B = np.zeros(num_users)
    errors, own_errors = np.zeros((2, num_users)), np.zeros((2, num_users))
    for fold in range(NUM_FOLDS):
        others, here = rated.of_users(fold_B != fold), rated.of_users(fold_B == fold)
        fitted = _fitted(head, others)
        if (here.inputs_NC[:, LOG_USERS] <= 0).any():
            fitted = _with_new_items(fitted, head, others)
        shares = fitted.shares(here.inputs_NC)
        chosen_N = np.take_along_axis(shares.share_L, here.level_N[:, None], 1)[:, 0]
        loss_B += here.by_user(-np.log(np.maximum(chosen_N, LEAST_SHARE)), num_users)
        num_others = int((fold_B != fold).sum())
        intercept, slope = fit_line(others.raw_N, others.value_N, others.weight_N, num_others)
        raw_N = np.clip(intercept + slope * here.raw_N, shares.value_L[0], shares.value_L[-1])
        for found, median_N, mean_N in (
            (errors, shares.median, shares.mean),
            (own_errors, here.median_N, raw_N),
        ):
            found[0] += here.by_user(np.abs(median_N - here.value_N), num_users)
            found[1] += here.by_user((mean_N - here.value_N) ** 2, num_users)
    return _HeldOut(loss_B=loss_B, errors=list(errors), own_errors=list(own_errors))


def _fitted(head: LevelHead, rated: Rated) -> LevelHead:
    """Return the head with the coefficients of greatest likelihood, penalised by a ridge around its
    present ones."""
    location_NF, scale_NG = designs(rated.inputs_NC)
    first = len(head.threshold_T), len(head.threshold_T) + len(head.location_F)
    prior_P = torch.cat([head.threshold_T, head.location_F, head.scale_G]).numpy()
    weight_N = rated.weight_N / rated.weight_N.sum()
    penalty_P = np.full(len(prior_P), 2 * RIDGE / len(np.unique(rated.user_N)))

    def loss_at(theta_P: Float64Array) -> float:
        threshold_T = theta_P[: first[0]]
        if (np.diff(threshold_T) <= 0).any():
            return float("inf")
        below_NT = cumulative(
            location_NF @ theta_P[first[0] : first[1]], scale_NG @ theta_P[first[1] :], threshold_T
        )
        share_NL = np.diff(below_NT, axis=-1, prepend=0.0, append=1.0)
        chosen_N = np.take_along_axis(share_NL, rated.level_N[:, None], 1)[:, 0]
        nll = -float(weight_N @ np.log(np.maximum(chosen_N, LEAST_SHARE)))
        return nll + float(penalty_P @ (theta_P - prior_P) ** 2) / 2

    def slope_and_curve(theta_P: Float64Array) -> tuple[Float64Array, Float64Array]:
        slope_P, curve_PP = _derivatives(
            theta_P, first, location_NF, scale_NG, rated.level_N, weight_N
        )
        return slope_P + penalty_P * (theta_P - prior_P), curve_PP + np.diag(penalty_P)

    theta_P = minimised(prior_P, loss_at, slope_and_curve)
    return dataclasses.replace(
        head,
        threshold_T=torch.from_numpy(theta_P[: first[0]].copy()),
        location_F=torch.from_numpy(theta_P[first[0] : first[1]].copy()),
        scale_G=torch.from_numpy(theta_P[first[1] :].copy()),
        bound_2C=torch.from_numpy(np.stack([rated.inputs_NC.min(0), rated.inputs_NC.max(0)])),
    )


def _with_new_items(fitted: LevelHead, start: LevelHead, rated: Rated) -> LevelHead:
    """Return a fitted head with coefficients for items that nobody has rated, learned as if nobody
    had rated the items of these ratings."""
    as_new = dataclasses.replace(rated, inputs_NC=without_item(rated.inputs_NC))
    of_new = _fitted(start, as_new)
    return dataclasses.replace(fitted, **{f"new_{name}": getattr(of_new, name) for name in LEARNED})


def _derivatives(
    theta_P: Float64Array,
    first: tuple[int, int],
    location_NF: Float64Array,
    scale_NG: Float64Array,
    level_N: IntArray,
    weight_N: Float64Array,
) -> tuple[Float64Array, Float64Array]:
    """Return the slope (P,) of the mean negative log-likelihood and its expected curvature (P, P),
    the Fisher information.

    Args:
        first: the positions at which the location's and the scale's coefficients begin.
    """
    num_thresholds, num_params = first[0], len(theta_P)
    slope_P, curve_PP = np.zeros(num_params), np.zeros((num_params, num_params))
    threshold_T = theta_P[:num_thresholds]
    for start in range(0, len(level_N), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        location_nF, scale_nG = location_NF[rows], scale_NG[rows]
        log_scale_n = scale_nG @ theta_P[first[1] :]
        place_n = location_nF @ theta_P[first[0] : first[1]]
        below_nT = cumulative(place_n, log_scale_n, threshold_T)
        share_nL = np.diff(below_nT, axis=-1, prepend=0.0, append=1.0)
        share_nL = np.maximum(share_nL, LEAST_SHARE)
        # The derivative of each threshold's cumulative share with respect to the parameters.
        density_nT = below_nT * (1 - below_nT) / width(log_scale_n)[:, None]
        away_nT = threshold_T - place_n[:, None]
        change_nTP = np.zeros((*density_nT.shape, num_params))
        diagonal = np.arange(num_thresholds)
        change_nTP[:, diagonal, diagonal] = density_nT
        change_nTP[:, :, first[0] : first[1]] = -density_nT[..., None] * location_nF[:, None]
        change_nTP[:, :, first[1] :] = -(density_nT * away_nT)[..., None] * scale_nG[:, None]
        edge_n1P = np.zeros((len(place_n), 1, num_params))
        change_nLP = np.diff(change_nTP, axis=1, prepend=edge_n1P, append=edge_n1P)
        score_nLP = change_nLP / share_nL[..., None]
        at_n1 = level_N[rows][:, None]
        chosen_nP = np.take_along_axis(score_nLP, at_n1[..., None], 1)[:, 0]
        slope_P -= weight_N[rows] @ chosen_nP
        root_nL = np.sqrt(share_nL * weight_N[rows][:, None])
        scaled = (score_nLP * root_nL[..., None]).reshape(-1, num_params)
        curve_PP += scaled.T @ scaled
    return slope_P, curve_PP
