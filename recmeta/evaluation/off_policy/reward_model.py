"""A model of the reward of a place, learned from the log itself: the effects of places and items.

    q(item, place) = mean of the place + b_item,    b_item ~ N(0, τ²),  reward − q ~ N(0, σ²)

Both variances are estimated by the method of moments, so that an item that was rarely shown is
shrunk to the mean (empirical Bayes; Searle, Casella and McCulloch, Variance Components, 1992,
section 3.6). It is fitted for each fold of users from the others, so that no reward is predicted
from itself (cross-fitting; Chernozhukov et al., The Econometrics Journal, 2018). A doubly robust
estimate is unbiased whatever this model predicts, if the propensities are right, and the better the
model is, the more precise it is.

Legend: N logged places, T places of other lists, J places of a list, I items.
"""

import dataclasses

import numpy as np

from recmeta.evaluation.off_policy.slates import LoggedSlates, OtherLists
from recmeta.tasks.arrays import Float64Array, IntArray

NUM_FOLDS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class RewardModel:
    """The mean rewards of places and the effects of items."""

    of_place_J: Float64Array
    of_item_I: Float64Array
    """The effect of an item beyond that of its place."""

    @classmethod
    def fit(
        cls,
        place_N: IntArray,
        item_N: IntArray,
        reward_N: Float64Array,
        num_places: int,
        num_items: int,
    ) -> "RewardModel":
        """Return the model fitted to some places' rewards. Without any, it predicts 0."""
        count_J = np.bincount(place_N, minlength=num_places)
        mean = float(reward_N.mean()) if len(reward_N) else 0.0
        sum_J = np.bincount(place_N, reward_N, num_places)
        of_place_J = np.where(count_J > 0, sum_J / np.maximum(count_J, 1), mean)
        left_N = reward_N - of_place_J[place_N]
        count_I = np.bincount(item_N, minlength=num_items)
        mean_I = np.bincount(item_N, left_N, num_items) / np.maximum(count_I, 1)
        num_met, num_rows = int((count_I > 0).sum()), len(reward_N)
        within = float(((left_N - mean_I[item_N]) ** 2).sum()) / max(num_rows - num_met, 1)
        spread = num_rows - float((count_I**2).sum()) / max(num_rows, 1)
        between = float((count_I * mean_I**2).sum()) - (num_met - 1) * within
        between = max(between / spread, 0.0) if spread > 0 else 0.0
        total_I = count_I * between + within
        shrunk_I = np.divide(count_I * between, total_I, out=np.zeros(num_items), where=total_I > 0)
        return cls(of_place_J=of_place_J, of_item_I=shrunk_I * mean_I)

    def predict(self, place: IntArray, item: IntArray) -> Float64Array:
        """Return the predicted rewards of these items at these places."""
        predicted: Float64Array = self.of_place_J[place] + self.of_item_I[item]
        return predicted


def cross_fitted(
    logged: LoggedSlates, other: OtherLists, generator: np.random.Generator
) -> tuple[Float64Array, Float64Array]:
    """Return predicted rewards of the logged places (N,) and of those of other lists (T,), for each
    user from the rewards of the other folds' users.

    Args:
        generator: draws the folds of users.
    """
    num_places = 1 + int(max(logged.place_N.max(initial=0), other.place_T.max(initial=0)))
    num_items = 1 + int(max(logged.item_N.max(initial=0), other.item_T.max(initial=0)))
    num_users = 1 + int(logged.user_S.max(initial=-1))
    fold_U = generator.permutation(num_users) % NUM_FOLDS
    fold_N = fold_U[logged.user_S[logged.slate_N]]
    fold_T = fold_U[logged.user_S[other.slate_T]]
    predicted_N, predicted_T = np.zeros(len(fold_N)), np.zeros(len(fold_T))
    for fold in range(NUM_FOLDS):
        others = np.flatnonzero(fold_N != fold)
        model = RewardModel.fit(
            logged.place_N[others],
            logged.item_N[others],
            logged.reward_N[others],
            num_places,
            num_items,
        )
        here_N, here_T = fold_N == fold, fold_T == fold
        predicted_N[here_N] = model.predict(logged.place_N[here_N], logged.item_N[here_N])
        predicted_T[here_T] = model.predict(other.place_T[here_T], other.item_T[here_T])
    return predicted_N, predicted_T
