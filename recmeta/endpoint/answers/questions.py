"""Which items to ask a user about next."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from recmeta.endpoint.answers.champion import ServedChampion
from recmeta.endpoint.answers.models import Item, QuestionsAnswer
from recmeta.serving.evidence.strategy import next_questions
from recmeta.serving.intake import GivenUser
from recmeta.tasks.task_set import Ragged

POPULARITY = "popularity"
"""How questions are chosen if `recmeta evidence` has not determined the best way."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inquiry:
    """One user's request for questions, checked."""

    champion: ServedChampion
    user: GivenUser
    unknown: Sequence[str]
    """Ids of items that the user does not know."""
    count: int


def answer(inquiry: Inquiry) -> QuestionsAnswer:
    """Return the questions, the best first."""
    champion = inquiry.champion
    numbers = [champion.intake.number_of.get(item.strip(), -1) for item in inquiry.unknown]
    unknown = [number for number in numbers if number >= 0]
    interview = champion.interview
    if interview is None:
        strategy, chosen = POPULARITY, _most_met(inquiry, unknown)
    else:
        strategy = interview.strategy.name
        tasks = champion.intake.tasks([inquiry.user])
        chosen = next_questions(
            interview.strategy,
            interview.questionnaire.candidates,
            tasks,
            Ragged.from_lists([unknown], [[0.0] * len(unknown)]),
            inquiry.count,
        )[0].tolist()
    return QuestionsAnswer(
        model_version=champion.version,
        strategy=strategy,
        items=[
            Item(item_id=champion.item_ids[number], title=champion.titles[number])
            for number in chosen
            if number >= 0
        ],
    )


def _most_met(inquiry: Inquiry, unknown: Sequence[int]) -> list[int]:
    """Return the items with the most users, among those that the user was not asked about yet."""
    champion = inquiry.champion
    worth = champion.popularity.astype(np.float64)
    known = [champion.intake.number_of.get(item.strip(), -1) for item in inquiry.user.item_id]
    asked = [number for number in (*known, *unknown) if number >= 0]
    worth[asked] = -np.inf
    best = np.argsort(-worth, kind="stable")[: inquiry.count]
    numbers: list[int] = best[worth[best] > -np.inf].tolist()
    return numbers
