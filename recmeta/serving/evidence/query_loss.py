"""How well users' queries are predicted after some answers: the loss that questions should lower.

Legend: B users, N answers or tasks.
"""

import dataclasses

import numpy as np

from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.evidence.respondents import Respondents
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Ragged, Tasks

TASKS_AT_ONCE = 1024


def query_loss(model: Model, tasks: Tasks) -> Float64Array:
    """Return (B,) each user's mean absolute error on their query, after adapting to the support.

    In units of the value.
    """
    scorer = Scorer.of(model)
    parts = [np.zeros(0)]
    for some in tasks.batches(TASKS_AT_ONCE):
        error = np.abs(scorer.score_query(some) - some.query.value)
        total = np.bincount(some.query.task, error, minlength=len(some))
        parts.append(total / np.maximum(some.query.lengths, 1))
    return np.concatenate(parts)


def loss_with_answer(
    model: Model, people: Respondents, support: Ragged, row_N: IntArray
) -> Float64Array:
    """Return (N,) what the loss of an answer's user would be, had they given that answer, too.

    Args:
        support: the answers that the B users have already given.
        row_N: rows of `people.answers`, of any users.
    """
    parts = [np.zeros(0)]
    user_of_row = people.answers.task
    for start in range(0, len(row_N), TASKS_AT_ONCE):
        row = row_N[start : start + TASKS_AT_ONCE]
        user = user_of_row[row]
        more = Ragged(
            np.arange(len(row) + 1, dtype=np.int64),
            people.answers.item[row],
            people.answers.value[row],
            people.answers.counted[row],
        )
        tasks = people.users.take(user)
        known = support.take(user).followed_by(more)
        parts.append(query_loss(model, dataclasses.replace(tasks, support=known)))
    return np.concatenate(parts)
