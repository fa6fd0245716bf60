"""Learning the order of lists, from the items that development users took and liked next.

The parts of a `ListHead` are counted from the training users' rows, or meta-learned from them
(`recmeta.training.choices`); its weights are a conditional logit (McFadden, 1974): each item that a
development user took and liked is a choice from the catalogue without the user's own rows, so the
weights maximise the mean over users of

    Σ_{i liked} log softmax(score(·))_i / number liked

over the whole support and its first 0, 1, 3 and 10 rows, with a penalty that draws neighbouring
knots together and shrinks all weights to those of popularity alone. A sample replaces the
catalogue, each of its items weighted by the number of items that it represents.

The likelihood is that of the whole catalogue, most of which no list shows: if the learner's output
is not linear in the log-probability, its tail is fitted at the expense of the first places, and
popularity counts too much. Popularity's weights may therefore be lowered, by more for users with
more rows, if the development users' lists are better for it.

Whether a setting other than the simplest is taken is decided between halves of the development
users: it must be better by more than a standard error of the difference (Breiman et al.,
Classification and Regression Trees, 1984).

Legend: B users, M items of each (query and sampled), I items, C columns, K knots, P = K · C.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch

from recmeta.evaluation.baseline import ranking_losses
from recmeta.evaluation.calibration import SHOTS
from recmeta.evaluation.certificate import NUM_FOLDS
from recmeta.evaluation.learned import LearnedPredictor
from recmeta.evaluation.measuring.catalogue_metrics import users_at_once
from recmeta.evaluation.measuring.catalogue_ranking import (
    candidate_scores,
    sample_negatives,
    top_items,
)
from recmeta.evaluation.measuring.values import describe
from recmeta.metalearn.heads.choice_head import ChoiceHead
from recmeta.metalearn.heads.list_head import (
    ATTRIBUTES,
    CHOICES,
    CHOICES_BEFORE,
    ITEM,
    KNOTS,
    LEARNER,
    POPULARITY,
    WEIGHT,
    ListHead,
    Table,
    hat,
)
from recmeta.metalearn.heads.neighbours import taken_next, taken_together
from recmeta.metalearn.heads.shared_attributes import SharedAttributes, attribute_codes
from recmeta.metalearn.model import Model
from recmeta.metalearn.numerics.threads import one_thread
from recmeta.metalearn.scorer import Scorer
from recmeta.metalearn.tensors.encoding import Encoder
from recmeta.metalearn.tensors.value_codes import profile_codes
from recmeta.tasks.arrays import BoolArray, Float64Array, IntArray
from recmeta.tasks.episodes import concatenate
from recmeta.tasks.item_history import ItemHistory, half_lives
from recmeta.tasks.task_set import Ragged, Tasks, TaskSet
from recmeta.training.choices import ChoiceConfig, Profiles, meta_learned
from recmeta.training.conditional_logit import Choices, fitted_weights, held_out_losses
from recmeta.training.standard_error import is_as_good, simplest_of_best

TOGETHER, NEXT = "together", "next"
NUM_NEIGHBOURS = 100
CENTRE_SHARE = 0.375
"""The share of the scale below which a row counts against items similar to its own."""
OFFSET = 0.5
"""Added to the counts of popularity, so that an item without any user has a chance."""
MOST_USERS = 400
"""The most development users from whom weights are learned."""
NUM_SAMPLED = 500
"""The number of items of the catalogue that represent all of it in a user's choice."""
USERS_AT_ONCE = 64
TOP = 10
"""The length of the lists by which settings are compared."""
FEWEST_USERS = 10
"""With fewer development users there is nothing to learn weights from."""
NO_CHOICES = ChoiceConfig(epochs=0)
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
    """Return the list head of a trained model, or None if too few development users liked anything.

    Args:
        seed: draws the users and items of samples.
        choices: how to learn what users take next.
    """
    history, spec = task_set.history(), task_set.spec
    liked_from = _liked_from(task_set)
    development = _who_liked(task_set.tasks("dev"), liked_from, seed)
    if len(development) < FEWEST_USERS:
        return None
    num_items = spec.num_items
    horizon = int(development.support.lengths.max(initial=0) + development.query.lengths.max())
    head = ListHead(
        columns=(POPULARITY, LEARNER, TOGETHER, NEXT),
        weight_KC=torch.zeros((len(KNOTS), 4)),
        offset=OFFSET,
        count_I=torch.zeros(num_items),
        tables=_tables(model.encoder, task_set, horizon if spec.temporal else None, seed),
        horizon=horizon if spec.temporal else None,
        taken_from=spec.taken_from,
        choices=_choices(choices, model.encoder, task_set, seed, model.device),
        value_range=spec.value_range if spec.objective == "rating" else None,
    ).to(model.device)
    asked = _Asked.of(
        development, model.encoder, liked_from, num_items, np.random.default_rng(seed)
    )
    learner = asked.learner(model)
    half_life = _chosen_half_life(asked, history)
    popularity = asked.popularity(history, half_life)
    centres: list[float | None] = [None]
    if spec.objective == "rating":
        low, high = spec.value_range
        centres.append(low + CENTRE_SHARE * (high - low))
    found: list[tuple[ListHead, list[Choices]]] = []
    for centre in centres:
        tried = dataclasses.replace(head, centre=centre)
        found.append((tried, asked.choices(tried, popularity, learner)))
    column_sets = _column_sets(head)

    everybody = np.arange(len(development))

    def with_weights(number: int, columns: tuple[str, ...], users_b: IntArray) -> ListHead:
        tried, choices = found[number]
        weights = fitted_weights([c.of_users(users_b) for c in choices], columns)
        return dataclasses.replace(
            tried,
            columns=columns,
            weight_KC=torch.from_numpy(weights.astype(np.float32)),
            half_life_days=half_life,
            count_I=torch.from_numpy(history.now(half_life)),
            tables={name: t for name, t in tried.tables.items() if name in columns},
            choices=tried.choices if CHOICES in columns else None,
        ).to(model.device)

    number = 0
    if len(found) > 1:
        heads = [with_weights(n, column_sets[-1], everybody) for n in range(len(found))]
        number = _widest_of_best(heads, model, development, history, liked_from)
    chosen = found[number][1]
    losses = [held_out_losses(chosen, columns) for columns in column_sets]
    columns = column_sets[simplest_of_best(losses)]
    likeliest = with_weights(number, columns, everybody)
    heads = [likeliest.with_popularity_share(share) for share in POPULARITY_SHARES]
    losses = [
        _ranking_loss(_using(head, model, history), development, liked_from) for head in heads
    ]
    best = simplest_of_best(losses)

    def without(fold: int) -> LearnedPredictor:
        head = with_weights(number, columns, np.flatnonzero(everybody % NUM_FOLDS != fold))
        return _using(head.with_popularity_share(POPULARITY_SHARES[best]), model, history)

    return LearnedLists(
        head=heads[best], development=development, liked_from=liked_from, without=without
    )


def _column_sets(head: ListHead) -> list[tuple[str, ...]]:
    """Return the candidate sets of columns, the simplest first."""
    neighbours = tuple(name for name in head.tables if name != ATTRIBUTES)
    found = [(POPULARITY, LEARNER), (POPULARITY, LEARNER, *neighbours)]
    if head.choices is not None:
        found += [(*columns, CHOICES, CHOICES_BEFORE) for columns in found]
    if ATTRIBUTES in head.tables:
        found += [(*columns, ATTRIBUTES) for columns in found]
    return found


def _using(head: ListHead, model: Model, history: ItemHistory) -> LearnedPredictor:
    """Return the model with lists ordered by a head."""
    predictor = LearnedPredictor("lists", model, history)
    predictor.scorer = dataclasses.replace(predictor.scorer, lists=head)
    return predictor


def _ranking_loss(predictor: LearnedPredictor, tasks: Tasks, liked_from: float) -> Float64Array:
    """Return (B,) 1 - nDCG@10 of the users' lists from the whole catalogue."""
    num_items = predictor.scorer.model.catalogue.num_items
    return ranking_losses(predictor, tasks, num_items, liked_from)


def _widest_of_best(
    heads: Sequence[ListHead],
    model: Model,
    tasks: Tasks,
    history: ItemHistory,
    liked_from: float,
) -> int:
    """Return the head whose lists for the tasks' users cover most of the catalogue, among those
    whose nDCG@10 is within a standard error of the best: diversity at no cost."""
    loss, width, num_items = [], [], model.catalogue.num_items
    for head in heads:
        predictor = _using(head, model, history)
        loss.append(_ranking_loss(predictor, tasks, liked_from))
        listed = [
            top_items(candidate_scores(predictor.score_items(some), some)[0], TOP)
            for some in tasks.batches(users_at_once(num_items))
        ]
        width.append(len(np.unique(np.concatenate(listed))))
    best = min(loss, key=lambda loss_B: float(loss_B.mean()))
    return max((n for n in range(len(heads)) if is_as_good(loss[n], best)), key=width.__getitem__)


def _choices(
    config: ChoiceConfig,
    encoder: Encoder,
    task_set: TaskSet,
    seed: int,
    device: torch.device,
    epochs: int | None = None,
) -> ChoiceHead | None:
    """Return the meta-learned head of what training users took next, or None if it is not
    configured.

    Args:
        epochs: the number of passes, or None for the number that is best on the development users.
    """
    spec, development = task_set.spec, task_set.tasks("dev")
    if not config.epochs:
        return None
    judges = development if epochs is None else task_set.tasks("train")
    taken = dataclasses.replace(
        development,
        support=development.support.taken(spec.taken_from),
        query=development.query.taken(spec.taken_from),
    )
    train_UW, field_V = profile_codes(encoder, task_set.tasks("train").profile)
    judged_BW, _ = profile_codes(encoder, development.profile)
    return meta_learned(
        _taken_rows(task_set),
        None if epochs is not None else taken,
        Profiles(train_UW, judged_BW, len(field_V)),
        spec.num_items,
        spec.value_range if spec.objective == "rating" else None,
        config,
        seed,
        device,
        in_order=spec.temporal,
        num_next=int(judges.query.lengths.max(initial=1)),
        epochs=epochs,
    )


def recounted(
    head: ListHead,
    encoder: Encoder,
    task_set: TaskSet,
    seed: int,
    choices: ChoiceConfig = NO_CHOICES,
) -> ListHead:
    """Return the head with its tables counted again from a task set's training users, and with its
    `ChoiceHead` trained on them again, for the same number of passes.

    Args:
        encoder: the encoder of the model that will have the head.
    """
    tables = _tables(encoder, task_set, head.horizon, seed)
    device = head.count_I.device
    learned = head.choices
    if learned is not None:
        learned = _choices(choices, encoder, task_set, seed, device, learned.epochs)
    return dataclasses.replace(
        head,
        tables={name: tables[name].to(device) for name in head.tables},
        choices=learned,
    )


def _training_rows(task_set: TaskSet) -> Ragged:
    train = task_set.tasks("train")
    return concatenate(train.support, train.query)


def _taken_rows(task_set: TaskSet) -> Ragged:
    return _training_rows(task_set).taken(task_set.spec.taken_from)


def _tables(
    encoder: Encoder, task_set: TaskSet, horizon: int | None, seed: int
) -> dict[str, Table]:
    """Return the tables of how strongly items predict others, counted from training users' rows.

    Args:
        encoder: knows the items' attributes.
        horizon: the number of rows that an episode spans, or None if rows have no order.
    """
    rows, num_items = _taken_rows(task_set), task_set.spec.num_items
    first = None if horizon is None else 2 * horizon
    found: dict[str, Table] = {
        TOGETHER: taken_together(rows, num_items, NUM_NEIGHBOURS, first, seed)
    }
    if horizon is not None:
        found[NEXT] = taken_next(rows, num_items, NUM_NEIGHBOURS, horizon, seed)
    codes = attribute_codes(encoder, task_set.items())
    if codes is not None:
        code_IW, field_V = codes
        some = rows if first is None else rows.first(first)
        found[ATTRIBUTES] = SharedAttributes.counted(code_IW, field_V, some)
    return found


def _liked_from(task_set: TaskSet) -> float:
    """Return the smallest value of a liked item."""
    if task_set.spec.objective == "implicit":
        return -np.inf
    return describe(_training_rows(task_set).value, task_set.spec.value_range).relevant_from


def _who_liked(tasks: Tasks, liked_from: float, seed: int) -> Tasks:
    """Return users who liked an item of their query, at most `MOST_USERS`."""
    liked = tasks.query.task[tasks.query.value >= liked_from]
    users = np.unique(liked)
    if len(users) > MOST_USERS:
        users = np.sort(np.random.default_rng(seed).choice(users, MOST_USERS, replace=False))
    return tasks.take(users)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Asked:
    """The items that users chose from: those that they took next, and a sample of all others."""

    tasks: Tasks
    encoder: Encoder
    item_BM: IntArray
    liked_BM: BoolArray
    log_weight_BM: Float64Array

    @classmethod
    def of(
        cls,
        tasks: Tasks,
        encoder: Encoder,
        liked_from: float,
        num_items: int,
        generator: np.random.Generator,
    ) -> "_Asked":
        query = tasks.query
        mask_BR = query.mask
        item_BR = np.zeros(mask_BR.shape, np.int64)
        item_BR[mask_BR] = query.item
        liked_BR = np.zeros(mask_BR.shape, np.bool_)
        liked_BR[mask_BR] = query.value >= liked_from
        parts = [
            sample_negatives(some, num_items, NUM_SAMPLED, generator)
            for some in tasks.batches(USERS_AT_ONCE)
        ]
        drawn_BM = np.concatenate(parts)
        is_drawn_BM = drawn_BM >= 0
        num_others_B = num_items - tasks.support.lengths - query.lengths
        stands_for_B = np.maximum(num_others_B, 1) / np.maximum(is_drawn_BM.sum(1), 1)
        log_weight_BM = np.where(is_drawn_BM, np.log(stands_for_B)[:, None], -np.inf)
        return cls(
            tasks=tasks,
            encoder=encoder,
            item_BM=np.concatenate([item_BR, np.maximum(drawn_BM, 0)], 1),
            liked_BM=np.concatenate([liked_BR, np.zeros(drawn_BM.shape, np.bool_)], 1),
            log_weight_BM=np.concatenate([np.where(mask_BR, 0.0, -np.inf), log_weight_BM], 1),
        )

    def shown(self) -> list[Tasks]:
        """Return the users with their first rows as support, then with their whole support."""
        return [*(self.tasks.with_shots(k) for k in SHOTS), self.tasks]

    def popularity(self, history: ItemHistory, half_life: float | None) -> Float64Array:
        """Return (B, M) log(π + c) at the users' cut times."""
        cut_M = np.repeat(self.tasks.cut_time, self.item_BM.shape[1])
        count_M = history.counts_of(cut_M, self.item_BM.reshape(-1), half_life)
        found: Float64Array = np.log(count_M.astype(np.float64) + OFFSET)
        return found.reshape(self.item_BM.shape)

    def learner(self, model: Model) -> list[Float64Array]:
        """Return (B, M) the learner's output, for each of `shown`; a CPU computes it with one
        thread, so that the number of threads does not decide the last bits of what is learned from
        it."""
        with one_thread(model.device.type == "cpu"):
            return [self._of_learner(Scorer.of(model), tasks) for tasks in self.shown()]

    def _of_learner(self, scorer: Scorer, tasks: Tasks) -> Float64Array:
        parts = []
        for first in range(0, len(tasks), USERS_AT_ONCE):
            users = np.arange(first, min(first + USERS_AT_ONCE, len(tasks)))
            some = tasks.take(users)
            rows = scorer.rows(Ragged.asking(self.item_BM[users]), some)
            parts.append(scorer.predict(scorer.adapt(some), rows).ranked_by_BR.cpu())
        found: Float64Array = torch.cat(parts).double().numpy()
        return found

    def choices(
        self, head: ListHead, popularity_BM: Float64Array, learner: Sequence[Float64Array]
    ) -> list[Choices]:
        """Return the users' choices, for each of `shown`."""
        found = []
        for tasks, learner_BM in zip(self.shown(), learner, strict=True):
            of_choices = () if head.choices is None else (CHOICES, CHOICES_BEFORE)
            names = [*head.tables, *of_choices]
            parts: dict[str, list[Float64Array]] = {name: [] for name in names}
            for first in range(0, len(tasks), USERS_AT_ONCE):
                users = np.arange(first, min(first + USERS_AT_ONCE, len(tasks)))
                some = tasks.take(users)
                state = head.state(some.support, profile_codes(self.encoder, some.profile)[0])
                item_bM = torch.from_numpy(self.item_BM[users]).to(head.count_I.device)
                if head.choices is not None:
                    said = head.log_odds(state), head.log_odds_before(state)
                    for name, said_bI in zip(of_choices, said, strict=True):
                        parts[name].append(said_bI.gather(1, item_bM).double().cpu().numpy())
                for name, table in head.tables.items():
                    z_bI = head.standardised(table.evidence(state[ITEM], state[WEIGHT]))
                    parts[name].append(z_bI.gather(1, item_bM).double().cpu().numpy())
            column = {name: np.concatenate(some) for name, some in parts.items()}
            num_rows_B = torch.from_numpy(tasks.support.lengths)
            found.append(
                Choices(
                    column={POPULARITY: popularity_BM, LEARNER: learner_BM, **column},
                    hat_BK=hat(num_rows_B).numpy(),
                    liked_BM=self.liked_BM,
                    log_weight_BM=self.log_weight_BM,
                )
            )
        return found


def _chosen_half_life(asked: _Asked, history: ItemHistory) -> float | None:
    """Return the half-life whose popularity best predicts what users chose: the longest of those
    within a standard error of the best."""
    candidates = half_lives(history)[::-1] if history.has_times else (None,)
    if len(candidates) == 1:
        return candidates[0]
    hat_BK = hat(torch.zeros(len(asked.tasks))).numpy()
    losses = [
        held_out_losses(
            [
                Choices(
                    column={POPULARITY: asked.popularity(history, half_life)},
                    hat_BK=hat_BK,
                    liked_BM=asked.liked_BM,
                    log_weight_BM=asked.log_weight_BM,
                )
            ],
            (POPULARITY,),
        )
        for half_life in candidates
    ]
    return candidates[simplest_of_best(losses)]
