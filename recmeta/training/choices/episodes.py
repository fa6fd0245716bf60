"""Episodes: pieces of users' histories, each cut into known rows and the rows after them.

An episode is a piece of a training user's history: up to `most_rows` rows that are known, and the
`num_next` after them. If few rows are known, half of the episodes have a gap between the two parts,
since a user's lists are read for a while after the first answers. Half of the pieces begin with the
user's first row, as for new users. If rows have no order, both parts are drawn at random.

Legend: P pieces, B users of a batch, S known rows, Q next rows, n rows of either part, L rows of a
history, U training users, W values of a profile (padded).
"""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import torch

from recmeta.metalearn.heads.choice_head import likings
from recmeta.tasks.arrays import BoolArray, IntArray
from recmeta.tasks.task_set import Ragged, Tasks
from recmeta.training.choices.config import ChoiceConfig

FEWEST_PIECES, MOST_PIECES = 4_096, 65_536
"""The fewest and the most pieces of an epoch: a small log is used several times, and a part of a
large one is drawn."""
MOST_OF_ONE_USER = 20
"""The most pieces of one user in an epoch."""


@dataclasses.dataclass(frozen=True)
class Episodes:
    """Users, their known interactions and what they took next."""

    item_BS: torch.Tensor
    liking_BS: torch.Tensor
    mask_BS: torch.Tensor
    next_BQ: torch.Tensor
    next_mask_BQ: torch.Tensor
    profile_BW: torch.Tensor

    def to(self, device: torch.device) -> "Episodes":
        """Return the episodes on a device."""
        return Episodes(*(t.to(device) for t in vars(self).values()))

    def part(self, first: int, last: int) -> "Episodes":
        """Return the episodes of some users."""
        return Episodes(*(t[first:last] for t in vars(self).values()))


@dataclasses.dataclass(frozen=True)
class EpisodeSampler:
    """Draws episodes from training users' histories."""

    rows: Ragged
    profile_UW: torch.Tensor
    value_range: tuple[float, float] | None
    config: ChoiceConfig
    num_next: int
    in_order: bool

    def epoch(self, generator: np.random.Generator) -> Iterator[Episodes]:
        """Yield the batches of a pass."""
        length_U = self.rows.lengths
        pieces_U = np.clip(length_U // (2 * self.num_next), 1, MOST_OF_ONE_USER)
        user_P = np.repeat(np.arange(len(length_U)), np.where(length_U >= 2, pieces_U, 0))
        times = max(1, math.ceil(FEWEST_PIECES / max(len(user_P), 1)))
        user_P = np.concatenate([generator.permutation(user_P) for _ in range(times)])
        user_P = user_P[:MOST_PIECES]
        for first in range(0, len(user_P), self.config.batch_size):
            yield self._drawn(user_P[first : first + self.config.batch_size], generator)

    def _drawn(self, user_B: IntArray, generator: np.random.Generator) -> Episodes:
        """Return a random piece of each user's history."""
        num_users = len(user_B)
        length_B = self.rows.lengths[user_B]
        most_B = np.minimum(self.config.most_rows, length_B - 1)
        known_B = generator.integers(0, most_B + 1)
        start_B, gap_B = np.zeros(num_users, np.int64), np.zeros(num_users, np.int64)
        place_BL = None
        if self.in_order:
            later = generator.random(num_users) < 0.5
            start_B = np.where(later, generator.integers(0, length_B - known_B), 0)
            gap_B = generator.integers(0, np.maximum(self.num_next - known_B, 0) + 1)
            gap_B = np.where(generator.random(num_users) < 0.5, gap_B, 0)
            gap_B = np.minimum(gap_B, length_B - start_B - known_B - 1)
        else:
            longest = int(length_B.max())
            draw_BL = generator.random((num_users, longest), dtype=np.float32)
            draw_BL[np.arange(longest) >= length_B[:, None]] = 2.0
            place_BL = np.argsort(draw_BL, 1)
        next_B = start_B + known_B + gap_B
        num_next_B = np.minimum(self.num_next, length_B - next_B)
        known = self._places(user_B, start_B, known_B, place_BL)
        after = self._places(user_B, next_B, num_next_B, place_BL)
        return self._episodes(known, after, self.profile_UW[torch.from_numpy(user_B)])

    def _places(
        self, user_B: IntArray, start_B: IntArray, num_B: IntArray, place_BL: IntArray | None
    ) -> tuple[IntArray, BoolArray]:
        """Return rows (B, n) of users' histories, padded with their first, and the mask."""
        step_n = np.arange(max(1, int(num_B.max(initial=0))))
        mask_Bn = step_n < num_B[:, None]
        within_Bn = np.where(mask_Bn, start_B[:, None] + step_n, 0)
        if place_BL is not None:
            within_Bn = np.take_along_axis(place_BL, within_Bn, 1)
        return self.rows.offsets[user_B][:, None] - self.rows.offsets[0] + within_Bn, mask_Bn

    def _episodes(
        self,
        known: tuple[IntArray, BoolArray],
        after: tuple[IntArray, BoolArray],
        profile_BW: torch.Tensor,
    ) -> Episodes:
        rows = self.rows
        liking_Bn = likings(rows.value[known[0]], self.value_range)
        return Episodes(
            torch.from_numpy(rows.item[known[0]].astype(np.int64)),
            torch.from_numpy(liking_Bn),
            torch.from_numpy(known[1]),
            torch.from_numpy(rows.item[after[0]].astype(np.int64)),
            torch.from_numpy(after[1]),
            profile_BW,
        )


def whole_supports(
    tasks: Tasks, profile_BW: torch.Tensor, value_range: tuple[float, float] | None
) -> Episodes:
    """Return the episodes of development users after their whole support."""
    found = []
    for side in (tasks.support, tasks.query):
        mask_BR = side.mask
        mask_BR = np.zeros((len(tasks), 1), np.bool_) if not mask_BR.shape[1] else mask_BR
        item_BR, value_BR = np.zeros(mask_BR.shape, np.int64), np.zeros(mask_BR.shape, np.float32)
        item_BR[mask_BR], value_BR[mask_BR] = side.item, side.value
        found.append((item_BR, likings(value_BR, value_range), mask_BR))
    (item_BS, liking_BS, mask_BS), (next_BQ, _, next_mask_BQ) = found
    return Episodes(
        torch.from_numpy(item_BS),
        torch.from_numpy(liking_BS),
        torch.from_numpy(mask_BS),
        torch.from_numpy(next_BQ),
        torch.from_numpy(next_mask_BQ),
        profile_BW,
    )
