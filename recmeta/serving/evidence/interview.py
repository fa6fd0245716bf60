"""Asks people, one question after the other, as a strategy would; their answers are their real
ratings.

Legend: B users, C candidates, Q questions, N possible answers of all users.
"""

import dataclasses

import numpy as np

from recmeta.serving.evidence.respondents import Respondents
from recmeta.serving.evidence.strategy import Candidates, SoFar, Strategy, best_places
from recmeta.tasks.arrays import BoolArray, Float64Array, IntArray
from recmeta.tasks.task_set import Tasks


@dataclasses.dataclass(frozen=True)
class Interview:
    """Q questions to each of B users, and which were answered."""

    people: Respondents
    item_BQ: IntArray
    """Number of the item asked about; -1 where no candidate was left."""
    answered_BQ: BoolArray
    question_N: IntArray
    """The question, from 0, that drew each possible answer; Q for those that none did."""

    @property
    def num_answers_BQ(self) -> IntArray:
        """Answers until each question, itself included."""
        return self.answered_BQ.cumsum(1)

    def after_questions(self, num_questions: int) -> Tasks:
        """Return the users with the answers to their first questions as support."""
        return self.people.after(self.question_N < num_questions)

    def after_answers(self, num_answers: int) -> tuple[Tasks, BoolArray]:
        """Return the users with their first answers as support, and (B,) who gave that many."""
        given_N = self.question_N < self.item_BQ.shape[1]
        task_N = self.people.answers.task
        order = np.lexsort((self.question_N, task_N))
        rank_N = np.empty(len(order), np.int64)
        rank_N[order] = self.people.answers.position
        tasks = self.people.after(given_N & (rank_N < num_answers))
        return tasks, tasks.support.lengths >= num_answers


def interview(
    strategy: Strategy, candidates: Candidates, people: Respondents, num_questions: int
) -> Interview:
    """Ask every user `num_questions` questions, each chosen after the answers before it.

    A user answers if the item is among their possible answers; otherwise they do not know it.
    """
    num_users, num_candidates = len(people), len(candidates)
    place_N = candidates.places(people.answers.item)
    row_BC = np.full((num_users, num_candidates), -1)
    is_candidate_N = place_N >= 0
    row_BC[people.answers.task[is_candidate_N], place_N[is_candidate_N]] = np.flatnonzero(
        is_candidate_N
    )
    everyone = np.arange(num_users)
    asked_BC = np.zeros((num_users, num_candidates), np.bool_)
    question_N = np.full(len(place_N), num_questions)
    item_BQ = np.full((num_users, num_questions), -1)
    answered_BQ = np.zeros((num_users, num_questions), np.bool_)
    for number in range(min(num_questions, num_candidates)):
        users = people.after(question_N < number)
        so_far = SoFar(users, asked_BC & (row_BC >= 0), asked_BC & (row_BC < 0))
        place_B, is_left_B = _first(best_places(strategy, so_far, 1))
        item_BQ[is_left_B, number] = candidates.item_C[place_B[is_left_B]]
        asked_BC[everyone[is_left_B], place_B[is_left_B]] = True
        row_B = np.where(is_left_B, row_BC[everyone, place_B], -1)
        answered_BQ[:, number] = row_B >= 0
        question_N[row_B[row_B >= 0]] = number
    return Interview(people, item_BQ, answered_BQ, question_N)


def _first(best: tuple[IntArray, Float64Array]) -> tuple[IntArray, BoolArray]:
    """Return (B,) the best place, and whether there is one."""
    place_BQ, worth_BQ = best
    return place_BQ[:, 0], worth_BQ[:, 0] > -np.inf
