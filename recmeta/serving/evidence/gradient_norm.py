"""MeLU's evidence candidates: gradient norm times popularity (Lee et al., KDD 2019, section 3.4).

An item that moves the user's weights far distinguishes tastes, and an item that many people know
gets an answer. Both numbers are divided by their maximum, and multiplied.

Legend: C candidates, N answers.
"""

import dataclasses

import numpy as np
import torch

from recmeta.errors import UserError
from recmeta.metalearn.learner import HasSupportGradient
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.evidence.respondents import Respondents
from recmeta.serving.evidence.strategy import Candidates, FixedOrder
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Ragged, Tasks

ROWS_AT_ONCE = 512


def gradient_norm_times_popularity(
    model: Model,
    people: Respondents,
    candidates: Candidates,
    generator: np.random.Generator,
    most_answers: int = 30_000,
) -> FixedOrder:
    """Return the strategy.

    The norm of an item is the mean over training users' answers of the norm of the gradient of the
    loss of that answer alone. An item that nobody answered is never asked.

    Args:
        people: training users.
        generator: draws the answers.
        most_answers: the most answers that are used.

    Raises:
        UserError: for a learner that has no gradient.
    """
    place_N = candidates.places(people.answers.item)
    row_N = np.flatnonzero(place_N >= 0)
    if len(row_N) > most_answers:
        row_N = np.sort(generator.choice(row_N, most_answers, replace=False))
    norm_N = _norms(model, people, row_N)
    num_C = np.bincount(place_N[row_N], minlength=len(candidates))
    norm_C = np.bincount(place_N[row_N], norm_N, len(candidates)) / np.maximum(num_C, 1)
    worth_C = norm_C / max(norm_C.max(), 1e-12) * candidates.share_C / candidates.share_C.max()
    return FixedOrder("gradient-norm", np.where(num_C > 0, worth_C, -np.inf))


@torch.no_grad()
def _norms(model: Model, people: Respondents, row_N: IntArray) -> Float64Array:
    """Return (N,) the norm of the gradient of each answer."""
    learner = model.learner
    if not isinstance(learner, HasSupportGradient):
        raise UserError(
            f"gradient-norm needs a learner that takes gradients, which {model.config.algorithm!r} "
            "is not: ask by adaptive-loss instead."
        )
    scorer = Scorer.of(model)
    parts = [np.zeros(0)]
    for start in range(0, len(row_N), ROWS_AT_ONCE):
        support = scorer.support(_single_answers(people, row_N[start : start + ROWS_AT_ONCE]))
        norm_N = learner.support_gradient_norm(scorer.params, support)
        parts.append(norm_N.double().cpu().numpy())
    return np.concatenate(parts)


def _single_answers(people: Respondents, row_N: IntArray) -> Tasks:
    """Return N tasks, each with one answer as its support."""
    rows = people.answers
    support = Ragged(
        np.arange(len(row_N) + 1, dtype=np.int64),
        rows.item[row_N],
        rows.value[row_N],
        rows.counted[row_N],
    )
    return dataclasses.replace(people.users.take(rows.task[row_N]), support=support)
