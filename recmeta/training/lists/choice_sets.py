"""The items that development users chose from, with everything by which lists may order them.

Legend: B users, M items of each (query and sampled), I items, K knots.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from recmeta.evaluation.calibration import SHOTS
from recmeta.evaluation.measuring.catalogue_ranking import sample_negatives
from recmeta.metalearn.heads.list_head import (
    CHOICES,
    CHOICES_BEFORE,
    ITEM,
    LEARNER,
    POPULARITY,
    WEIGHT,
    ListHead,
    hat,
)
from recmeta.metalearn.model import Model
from recmeta.metalearn.numerics.threads import one_thread
from recmeta.metalearn.scorer import Scorer
from recmeta.metalearn.tensors.encoding import Encoder
from recmeta.metalearn.tensors.value_codes import profile_codes
from recmeta.tasks.arrays import BoolArray, Float64Array, IntArray
from recmeta.tasks.item_history import ItemHistory, half_lives
from recmeta.tasks.task_set import Ragged, Tasks
from recmeta.training.lists.conditional_logit import Choices, held_out_losses
from recmeta.training.lists.prior import prior_weights
from recmeta.training.standard_error import simplest_of_best

OFFSET = 0.5
"""Added to the counts of popularity, so that an item without any user has a chance."""
NUM_SAMPLED = 500
"""The number of items of the catalogue that represent all of it in a user's choice."""
USERS_AT_ONCE = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceSets:
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
    ) -> "ChoiceSets":
        """Return the items that users chose from.

        Args:
            liked_from: the smallest value of a liked item.
            generator: draws the samples.
        """
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
            return [self._outputs(Scorer.of(model), tasks) for tasks in self.shown()]

    def _outputs(self, scorer: Scorer, tasks: Tasks) -> Float64Array:
        parts = []
        for first in range(0, len(tasks), USERS_AT_ONCE):
            users = np.arange(first, min(first + USERS_AT_ONCE, len(tasks)))
            some = tasks.take(users)
            rows = scorer.rows(Ragged.asking(self.item_BM[users]), some)
            parts.append(scorer.predict(scorer.adapt(some), rows).listed_by_BR.cpu())
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
                    log_odds = head.log_odds(state), head.log_odds_before(state)
                    for name, log_odds_bI in zip(of_choices, log_odds, strict=True):
                        parts[name].append(log_odds_bI.gather(1, item_bM).double().cpu().numpy())
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


def best_half_life(sets: ChoiceSets, history: ItemHistory) -> float | None:
    """Return the half-life whose popularity best predicts what users chose: the longest of those
    within a standard error of the best. The events have times."""
    candidates = half_lives(history)[::-1]
    if len(candidates) == 1:
        return candidates[0]
    hat_BK = hat(torch.zeros(len(sets.tasks))).numpy()
    losses = [
        held_out_losses(
            [
                Choices(
                    column={POPULARITY: sets.popularity(history, half_life)},
                    hat_BK=hat_BK,
                    liked_BM=sets.liked_BM,
                    log_weight_BM=sets.log_weight_BM,
                )
            ],
            (POPULARITY,),
            prior_weights((POPULARITY,)),
        )
        for half_life in candidates
    ]
    return candidates[simplest_of_best(losses)]
