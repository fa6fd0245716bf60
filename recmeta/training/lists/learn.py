"""Learning the order of lists, from the items that development users took and liked next.

The parts of a `ListHead` are counted from the training users' rows, or meta-learned from them
(`recmeta.training.choices`); its weights are a conditional logit (McFadden, 1974): each item that a
development user took and liked is a choice from the catalogue without the user's own rows, so the
weights maximise the mean over users of

    Σ_{i liked} log softmax(score(·))_i / number liked

over the whole support and its first 0, 1, 3 and 10 rows, with penalties that draw them to the
weights of other logs (`recmeta.training.lists.prior`): the fewer the development users, the more.
Without enough of them the weights are those of other logs, and what users take next is not learned,
since nobody says when to stop. A sample replaces the catalogue, each of its items weighted by the
number of items that it represents.

The likelihood is that of the whole catalogue, most of which no list shows: if the learner's output
is not linear in the log-probability, its tail is fitted at the expense of the first places, and
popularity counts too much. Popularity's weights may therefore be lowered, by more for users with
more rows, if the development users' lists are better for it.

Whether a setting other than the simplest is taken is decided between halves of the development
users: it must be better by more than a standard error of the difference (Breiman et al.,
Classification and Regression Trees, 1984). With few development users no difference is, so all
columns are kept, and the training users help to choose the half-life.

Legend: B users, M items of each (query and sampled).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from recmeta.evaluation.baseline import ranking_losses
from recmeta.evaluation.certificate import NUM_FOLDS
from recmeta.evaluation.learned import LearnedPredictor
from recmeta.evaluation.measuring.catalogue_metrics import users_at_once
from recmeta.evaluation.measuring.catalogue_ranking import candidate_scores, top_items
from recmeta.evaluation.measuring.values import describe
from recmeta.metalearn.heads.list_head import (
    CHOICES,
    CHOICES_BEFORE,
    KNOTS,
    LEARNER,
    POPULARITY,
    ListHead,
)
from recmeta.metalearn.model import Model
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.item_history import ItemHistory
from recmeta.tasks.task_set import Tasks, TaskSet
from recmeta.training.choices.config import ChoiceConfig
from recmeta.training.lists.choice_sets import OFFSET, ChoiceSets, best_half_life
from recmeta.training.lists.conditional_logit import (
    Choices,
    fitted_weights,
    held_out_losses,
    scales,
)
from recmeta.training.lists.parts import NO_CHOICES, choice_head, neighbour_tables, training_rows
from recmeta.training.lists.prior import column_sets, prior_weights
from recmeta.training.standard_error import is_as_good, simplest_of_best

CENTRE_SHARE = 0.375
"""The share of the scale below which a row counts against items similar to its own."""
MOST_USERS = 400
"""The most development users from whom weights are learned."""
TOP = 10
"""The length of the lists by which settings are compared."""
FEWEST_USERS = 10
"""With fewer development users the weights of other logs hold."""
FEWEST_TO_CHOOSE = 60
"""With fewer development users all columns are kept."""
MOST_NEXT = 20
"""The most rows of a training user that count as taken next, as many as of a development user."""
POPULARITY_SHARES = (1.0, 0.5, 0.25, 0.1)
"""The shares of popularity's weight that may be kept for users with many rows."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnedLists:
    """The head that orders lists, and the users from whom it was learned."""

    head: ListHead
    development: Tasks
    liked_from: float
    """The smallest value of a liked item."""
    without: Callable[[int], LearnedPredictor]
    """Returns the model with lists whose weights were learned without a fold: without the users
    whose place in `development`, modulo `NUM_FOLDS`, is this number."""


def learn_lists(
    model: Model, task_set: TaskSet, seed: int, choices: ChoiceConfig = NO_CHOICES
) -> LearnedLists | None:
    """Return the list head of a trained model, or None if nobody liked anything.

    Args:
        seed: draws the users and items of samples.
        choices: how to learn what users take next.
    """
    liked_from = _liked_from(task_set)
    development = _who_liked(task_set.tasks("dev"), liked_from, seed)
    if len(development) < FEWEST_USERS:
        return _as_on_other_logs(model, task_set, development, liked_from, seed)
    head = _without_weights(model, task_set, development, seed, choices)
    choosers = development
    if len(development) < FEWEST_TO_CHOOSE:
        choosers = Tasks.joined([development, _training_judges(task_set, liked_from, seed)])
    half_life = _half_life(model, task_set, choosers, liked_from, seed)
    search = _Search.of(head, model, task_set, development, liked_from, half_life, seed)
    sets = column_sets(head.columns)
    everybody = np.arange(len(development))
    number = 0
    if len(search.candidates) > 1:
        heads = [search.weighted(n, sets[-1], everybody) for n in range(len(search.candidates))]
        number = search.widest_of_best(heads)
    columns = sets[-1]
    if len(development) >= FEWEST_TO_CHOOSE:
        found = search.candidates[number].choices
        losses = [held_out_losses(found, some, prior_weights(some)) for some in sets]
        columns = sets[simplest_of_best(losses)]
    likeliest = search.weighted(number, columns, everybody)
    heads = [likeliest.with_popularity_share(share) for share in POPULARITY_SHARES]
    best = simplest_of_best([search.ranking_loss(head) for head in heads])

    def without(fold: int) -> LearnedPredictor:
        head = search.weighted(number, columns, np.flatnonzero(everybody % NUM_FOLDS != fold))
        return search.predictor(head.with_popularity_share(POPULARITY_SHARES[best]))

    return LearnedLists(
        head=heads[best], development=development, liked_from=liked_from, without=without
    )


def _as_on_other_logs(
    model: Model, task_set: TaskSet, development: Tasks, liked_from: float, seed: int
) -> LearnedLists | None:
    """Return the head whose weights are those of other logs, or None if no training user liked what
    came next. The training users say what a column's standard deviation is, and the half-life."""
    judges = _training_judges(task_set, liked_from, seed)
    if not len(judges):
        return None
    head = _without_weights(model, task_set, judges, seed, NO_CHOICES)
    half_life = _half_life(model, task_set, judges, liked_from, seed)
    search = _Search.of(head, model, task_set, judges, liked_from, half_life, seed, (None,))
    found = search.unfitted(column_sets(head.columns)[-1])
    return LearnedLists(
        head=found,
        development=development,
        liked_from=liked_from,
        without=lambda fold: search.predictor(found),
    )


def _training_judges(task_set: TaskSet, liked_from: float, seed: int) -> Tasks:
    """Return training users who liked what came next, with as many next rows as development users
    have."""
    train = task_set.tasks("train")
    train = dataclasses.replace(train, query=train.query.first(MOST_NEXT))
    return _who_liked(train, liked_from, seed)


def choices_of(
    model: Model, task_set: TaskSet, users: Tasks, seed: int, choices: ChoiceConfig
) -> list[Choices]:
    """Return what users chose, and all columns by which lists may be ordered, for each number of
    known rows; the prior is learned from such users of several logs.

    Args:
        users: users on whom the model was not trained.
        choices: how to learn what users take next.
    """
    liked_from = _liked_from(task_set)
    judges = _who_liked(users, liked_from, seed)
    head = _without_weights(model, task_set, judges, seed, choices)
    half_life = _half_life(model, task_set, judges, liked_from, seed)
    search = _Search.of(head, model, task_set, judges, liked_from, half_life, seed, (None,))
    return search.candidates[0].choices


def _half_life(
    model: Model, task_set: TaskSet, choosers: Tasks, liked_from: float, seed: int
) -> float | None:
    """Return the half-life whose popularity best predicts what users chose, or None, by which old
    events count as new ones do, if the users are too few to tell."""
    history = task_set.history()
    if not history.has_times or len(choosers) < FEWEST_USERS:
        return None
    generator = np.random.default_rng(seed)
    num_items = task_set.spec.num_items
    sets = ChoiceSets.of(choosers, model.encoder, liked_from, num_items, generator)
    return best_half_life(sets, history)


def _without_weights(
    model: Model, task_set: TaskSet, judges: Tasks, seed: int, choices: ChoiceConfig
) -> ListHead:
    """Return a head with all its parts but the weights and the counts of popularity. Its columns
    are all that there are."""
    spec = task_set.spec
    longest = int(judges.support.lengths.max(initial=0) + judges.query.lengths.max())
    horizon = longest if spec.temporal else None
    tables = neighbour_tables(model.encoder, task_set, horizon, seed)
    learned = choice_head(choices, model.encoder, task_set, seed, model.device)
    of_choices = () if learned is None else (CHOICES, CHOICES_BEFORE)
    columns = (POPULARITY, LEARNER, *tables, *of_choices)
    return ListHead(
        columns=columns,
        weight_KC=torch.zeros((len(KNOTS), len(columns))),
        offset=OFFSET,
        count_I=torch.zeros(spec.num_items),
        tables=tables,
        horizon=horizon,
        taken_from=spec.taken_from,
        choices=learned,
        value_range=spec.value_range if spec.objective == "rating" else None,
    ).to(model.device)


class _Candidate(NamedTuple):
    """A head with a certain centre, and the users' choices as its parts describe them."""

    head: ListHead
    choices: list[Choices]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Search:
    """The candidates for a head, and the users on whom they are compared."""

    model: Model
    history: ItemHistory
    development: Tasks
    liked_from: float
    half_life: float | None
    candidates: list[_Candidate]

    @classmethod
    def of(
        cls,
        head: ListHead,
        model: Model,
        task_set: TaskSet,
        development: Tasks,
        liked_from: float,
        half_life: float | None,
        seed: int,
        centres: Sequence[float | None] | None = None,
    ) -> "_Search":
        """Return the candidates that a head without weights may become.

        Args:
            centres: the candidates for the centre, or None for all that there are.
        """
        history, spec = task_set.history(), task_set.spec
        generator = np.random.default_rng(seed)
        sets = ChoiceSets.of(development, model.encoder, liked_from, spec.num_items, generator)
        learner = sets.learner(model)
        popularity_BM = sets.popularity(history, half_life)
        if centres is None:
            low, high = spec.value_range
            of_scale = (low + CENTRE_SHARE * (high - low),) if spec.objective == "rating" else ()
            centres = (None, *of_scale)
        heads = [dataclasses.replace(head, centre=centre) for centre in centres]
        return cls(
            model=model,
            history=history,
            development=development,
            liked_from=liked_from,
            half_life=half_life,
            candidates=[_Candidate(h, sets.choices(h, popularity_BM, learner)) for h in heads],
        )

    def weighted(self, number: int, columns: tuple[str, ...], users_b: IntArray) -> ListHead:
        """Return a candidate with weights of these columns, learned from some of the users."""
        choices = [c.of_users(users_b) for c in self.candidates[number].choices]
        weights = fitted_weights(choices, columns, prior_weights(columns))
        return self._with_weights(number, columns, weights)

    def unfitted(self, columns: tuple[str, ...]) -> ListHead:
        """Return the first candidate with the weights of other logs."""
        scale_C = scales(self.candidates[0].choices, columns)
        return self._with_weights(0, columns, prior_weights(columns) / scale_C)

    def _with_weights(
        self, number: int, columns: tuple[str, ...], weight_KC: Float64Array
    ) -> ListHead:
        head = self.candidates[number].head
        return dataclasses.replace(
            head,
            columns=columns,
            weight_KC=torch.from_numpy(weight_KC.astype(np.float32)),
            half_life_days=self.half_life,
            count_I=torch.from_numpy(self.history.now(self.half_life)),
            tables={name: t for name, t in head.tables.items() if name in columns},
            choices=head.choices if CHOICES in columns else None,
        ).to(self.model.device)

    def predictor(self, head: ListHead) -> LearnedPredictor:
        """Return the model with lists ordered by a head."""
        predictor = LearnedPredictor("lists", self.model, self.history)
        predictor.scorer = dataclasses.replace(predictor.scorer, lists=head)
        return predictor

    def ranking_loss(self, head: ListHead) -> Float64Array:
        """Return (B,) 1 - nDCG@10 of the users' lists from the whole catalogue."""
        num_items = self.model.catalogue.num_items
        return ranking_losses(self.predictor(head), self.development, num_items, self.liked_from)

    def widest_of_best(self, heads: Sequence[ListHead]) -> int:
        """Return the place of the head whose lists cover most of the catalogue, among those whose
        nDCG@10 is within a standard error of the best: diversity at no cost."""
        losses, widths = [], []
        for head in heads:
            losses.append(self.ranking_loss(head))
            predictor = self.predictor(head)
            listed = [
                top_items(candidate_scores(predictor.score_items(some), some)[0], TOP)
                for some in self.development.batches(users_at_once(self.model.catalogue.num_items))
            ]
            widths.append(len(np.unique(np.concatenate(listed))))
        best_B = min(losses, key=lambda loss_B: float(loss_B.mean()))
        as_good = (n for n in range(len(heads)) if is_as_good(losses[n], best_B))
        return max(as_good, key=widths.__getitem__)


def _liked_from(task_set: TaskSet) -> float:
    """Return the smallest value of a liked item."""
    if task_set.spec.objective == "implicit":
        return -np.inf
    return describe(training_rows(task_set).value, task_set.spec.value_range).relevant_from


def _who_liked(tasks: Tasks, liked_from: float, seed: int) -> Tasks:
    """Return users who liked an item of their query, at most `MOST_USERS`."""
    liked = tasks.query.task[tasks.query.value >= liked_from]
    users = np.unique(liked)
    if len(users) > MOST_USERS:
        users = np.sort(np.random.default_rng(seed).choice(users, MOST_USERS, replace=False))
    return tasks.take(users)
