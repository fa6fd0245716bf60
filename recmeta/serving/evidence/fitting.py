"""Learns a questionnaire from the training users, which takes minutes.

Legend: U training users, C candidates, K classes.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from recmeta import schema
from recmeta.errors import UserError
from recmeta.metalearn.model import Model
from recmeta.serving.evidence.adaptive_loss import MeasuredFalls, falls_by_class, measure_falls
from recmeta.serving.evidence.controls import popularity
from recmeta.serving.evidence.familiarity import LatentClasses, knows
from recmeta.serving.evidence.gradient_norm import gradient_norm_times_popularity
from recmeta.serving.evidence.greedy import greedy_loss
from recmeta.serving.evidence.questionnaire import Questionnaire, QuestionnaireConfig
from recmeta.serving.evidence.respondents import respondents
from recmeta.serving.evidence.strategy import Candidates
from recmeta.tasks.arrays import BoolArray, Float64Array, IntArray
from recmeta.tasks.item_files import ItemStatistics
from recmeta.tasks.task_set import Ragged, Tasks


@dataclasses.dataclass(frozen=True)
class TriedAnswers:
    """The results of trying answers on training users, as far as they do not depend on latent
    classes."""

    candidates: Candidates
    knows_UC: BoolArray
    """Which candidates each training user knows."""
    tried: IntArray
    """Positions of the users on whom answers were tried."""
    falls: MeasuredFalls
    """Users are positions in `tried`."""
    lists: Mapping[str, Float64Array]
    """(C,) worths, by the name of a strategy that asks everybody the same."""

    def questionnaire(self, config: QuestionnaireConfig) -> Questionnaire:
        """Return the questionnaire with the classes of a configuration."""
        generator = np.random.default_rng(config.seed)
        classes = LatentClasses.fit(self.knows_UC, config.num_classes, generator)
        knows_TC = self.knows_UC[self.tried]
        member_TK = classes.membership(knows_TC, ~knows_TC)
        falls_KC = falls_by_class(self.falls, classes, member_TK)
        return Questionnaire(config, self.candidates, classes, falls_KC, self.lists)


def try_answers(model: Model, train: Tasks, config: QuestionnaireConfig) -> TriedAnswers:
    """Try answers on training users.

    Args:
        model: over the catalogue that is asked about; see `as_training_users_left_it`.
        train: training users; all rows of support and query count.

    Raises:
        UserError: for a model of implicit feedback, in which nobody says "I do not know it".
    """
    if model.objective != "rating":
        raise UserError(
            "a questionnaire asks for ratings, and the model learned from implicit feedback, whose "
            "events do not show which items a user does not know: train on ratings "
            "(tasks.split.objective = 'rating')."
        )
    generator = np.random.default_rng(config.seed)
    candidates = Candidates.most_rated(train, model.catalogue.num_items, config.num_candidates)
    drawn = np.sort(generator.permutation(len(train))[: config.most_users])
    some = train.take(drawn)
    rows = counted(some.rows, True)
    people, kept = respondents(at_the_end(some, model), rows, generator)
    lists = [
        popularity(candidates),
        gradient_norm_times_popularity(model, people, candidates, generator),
        greedy_loss(model, people, candidates, config.greedy),
    ]
    return TriedAnswers(
        candidates,
        knows(candidates, train),
        drawn[kept],
        measure_falls(model, people, candidates, generator),
        {order.name: order.worth_C for order in lists},
    )


def as_training_users_left_it(model: Model, train: Tasks) -> Model:
    """Return the model over its catalogue with the item statistics of the training users alone.

    Questions to held-out users, and predictions for them, then do not depend on their own rows.
    """
    num_items = model.catalogue.num_items
    rows = train.rows
    num_users = np.bincount(rows.item, minlength=num_items)
    sum_values = np.bincount(rows.item, rows.value, num_items)
    statistics = ItemStatistics(
        np.array([schema.END_OF_TIME]),
        num_users[None].astype(np.float32),
        sum_values[None].astype(np.float32),
    )
    return model.on(model.catalogue.items, statistics)


def at_the_end(users: Tasks, model: Model) -> Tasks:
    """Return users as a model meets them at the end of its log."""
    newest = len(model.catalogue.statistics.time) - 1
    return dataclasses.replace(
        users,
        snapshot=np.full(len(users), newest, np.int32),
        cut_time=np.full(len(users), schema.END_OF_TIME),
    )


def counted(rows: Ragged, is_counted: bool) -> Ragged:
    """Return rows that all are, or are not, part of their items' statistics."""
    return dataclasses.replace(rows, counted=np.full(len(rows.item), is_counted))
