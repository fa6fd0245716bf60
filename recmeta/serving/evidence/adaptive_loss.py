"""The next question from the answers so far, for any learner: the expected fall of the query loss.

The worth of an answer about an item was measured on the training users: the model adapted to a
random part of a user's answers, then to one more. The worth of asking a latent class about an item
is the mean over its members, times the probability that a member knows the item. The items that a
user knows and does not know show which class the user is in.

Legend: B users, U training users, C candidates, K classes, N answers.
"""

import dataclasses

import numpy as np

from recmeta.metalearn.model import Model
from recmeta.serving.evidence.familiarity import LatentClasses
from recmeta.serving.evidence.query_loss import loss_with_answer, query_loss
from recmeta.serving.evidence.respondents import Respondents
from recmeta.serving.evidence.strategy import Candidates, SoFar
from recmeta.tasks.arrays import Float64Array, IntArray

PRIOR_ANSWERS = 50.0
"""An item's mean fall is shrunk to that of all items, and a class's to its item's, as if by this
many more answers: one answer's fall is mostly noise."""


@dataclasses.dataclass(frozen=True)
class MeasuredFalls:
    """The falls of training users' query loss by single answers."""

    user_N: IntArray
    place_N: IntArray
    """The candidate that each answer is about."""
    fall_N: Float64Array
    """In units of the value."""


def measure_falls(
    model: Model,
    people: Respondents,
    candidates: Candidates,
    generator: np.random.Generator,
    *,
    most_before: int = 10,
    most_answers: int = 60_000,
) -> MeasuredFalls:
    """Return what single answers did, each after up to `most_before` other answers of its user.

    Args:
        people: training users.
        most_before: how many answers were known before is uniform from 0 to this.
        most_answers: the most answers that are tried.
    """
    task_N = people.answers.task
    order = np.lexsort((generator.random(len(task_N)), task_N))
    rank_N = np.empty(len(order), np.int64)
    rank_N[order] = people.answers.position
    num_before_U = generator.integers(0, most_before + 1, len(people))
    is_before_N = rank_N < num_before_U[task_N]
    before = people.after(is_before_N)
    place_N = candidates.places(people.answers.item)
    row_N = np.flatnonzero((place_N >= 0) & ~is_before_N)
    if len(row_N) > most_answers:
        row_N = np.sort(generator.choice(row_N, most_answers, replace=False))
    loss_U = query_loss(model, before)
    after_N = loss_with_answer(model, people, before.support, row_N)
    user_N = task_N[row_N]
    return MeasuredFalls(user_N, place_N[row_N], loss_U[user_N] - after_N)


def falls_by_class(
    falls: MeasuredFalls, classes: LatentClasses, member_UK: Float64Array
) -> Float64Array:
    """Return (K, C) the mean fall of an answer about each candidate by a member of each class."""
    num_classes, num_candidates = classes.share_KC.shape
    overall = float(falls.fall_N.mean()) if len(falls.fall_N) else 0.0
    num_C = np.bincount(falls.place_N, minlength=num_candidates)
    sum_C = np.bincount(falls.place_N, falls.fall_N, num_candidates)
    fall_C = (sum_C + PRIOR_ANSWERS * overall) / (num_C + PRIOR_ANSWERS)
    member_NK = member_UK[falls.user_N]
    fall_KC = np.empty((num_classes, num_candidates))
    for k in range(num_classes):
        weight_N = member_NK[:, k]
        weight_C = np.bincount(falls.place_N, weight_N, num_candidates)
        total_C = np.bincount(falls.place_N, weight_N * falls.fall_N, num_candidates)
        fall_KC[k] = (total_C + PRIOR_ANSWERS * fall_C) / (weight_C + PRIOR_ANSWERS)
    return fall_KC


@dataclasses.dataclass(frozen=True)
class AdaptiveLoss:
    """Asks about what lowers the query loss most for people who know the same items as this
    user."""

    classes: LatentClasses
    fall_KC: Float64Array
    """The result of `falls_by_class`."""
    name: str = "adaptive-loss"

    def worth(self, so_far: SoFar) -> Float64Array:
        """Return by how much asking is expected to lower the loss."""
        member_BK = self.classes.membership(so_far.known_BC, so_far.unknown_BC)
        return member_BK @ (self.classes.share_KC * self.fall_KC)
