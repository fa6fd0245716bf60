"""Meta-training of a `ChoiceHead`: what users take next, given their rows so far.

An episode is a piece of a training user's history: up to `most_rows` rows that are known, and the
`num_next` after them. If few rows are known, half of the episodes have a gap between the two parts,
since a user's lists are read for a while after the first answers. Half of the pieces begin with the
user's first row, as for new users. If rows have no order, both parts are drawn at random. The loss
is the softmax over the catalogue without the known rows, or over a sample of it whose items are
weighted to represent the others; it is differentiated through the inner steps.

The trainer of learners is not used: it draws one episode per user and pass, from all later rows,
and stops by the errors of predictions.

A batch is computed in shares of `USERS_AT_ONCE` users whose gradients are added in order, which
gives the same bits for any number of threads.

Legend: W pieces, B users of a batch, S known rows, Q next rows, I items, N items of a sample, D
numbers of a vector, U training users, W values of a profile (padded).
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from recmeta.errors import UserError
from recmeta.metalearn.factors.weighted_als import WeightedALSConfig, factorise_weighted
from recmeta.metalearn.heads.choice_head import (
    BY_ITEM,
    EXPLAINS,
    POPULARITY,
    PREDICTS,
    UNMET,
    ChoiceHead,
    adapted,
    likings,
)
from recmeta.metalearn.learner import Params
from recmeta.metalearn.numerics.threads import in_turn, on_threads, one_thread
from recmeta.metalearn.outer_loop.optimiser import OuterOptimiser
from recmeta.tasks.arrays import BoolArray, IntArray
from recmeta.tasks.task_set import Ragged, Tasks

USERS_AT_ONCE = 32
FEWEST_PIECES, MOST_PIECES = 4_096, 65_536
"""The fewest and the most pieces of an epoch: a small log is used several times, and a part of a
large one is drawn."""
MOST_OF_ONE_USER = 20
"""The most pieces of one user in an epoch."""
MOST_NUMBERS = 2**24
"""The most numbers of a table of vectors: a catalogue of more than 262,144 items has vectors
shorter than 64."""
CONFIDENCE = 5.0
"""The confidence of the factorisation from which training starts."""
SHARPNESS = (0.4, 0.6, 0.8, 1.0)
"""The factors that are tried for the users' part of the scores, which is added to popularity:
passes are compared with the best factor."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceConfig:
    """The hyperparameters of meta-learning what users take next; docs/choices.md says how they were
    chosen."""

    num_factors: int = 64
    """The length of an item's vector."""
    num_steps: int = 1
    """The number of gradient steps of the inner loop."""
    most_rows: int = 30
    """The most known rows of an episode. For a user with more rows, only the newest count. If rows
    have no order, all count, each with less weight."""
    dropout: float = 0.5
    """The share of an adapted user's vector that is left out of an episode."""
    batch_size: int = 64
    """The number of users per outer step."""
    learning_rate: float = 1e-3
    """The learning rate of AdamW."""
    weight_decay: float = 0.0
    """The weight decay of AdamW, per step, as a share of the learning rate."""
    epochs: int = 20
    """The most passes over the training users; with 0 what users take next is not learned."""
    patience: int = 3
    """The number of passes without a greater likelihood for the development users after which
    training stops."""
    catalogue_sample: int = 20_000
    """The number of items in the softmax besides those of the batch; a larger catalogue is
    sampled."""

    def __post_init__(self) -> None:
        for name in (
            *("num_factors", "num_steps", "most_rows", "batch_size", "patience"),
            "catalogue_sample",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.epochs < 0:
            raise ValueError(f"epochs is {self.epochs}; it must not be negative.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be at least 0 and less than 1.")
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise ValueError(
                f"learning_rate {self.learning_rate} must be positive, weight_decay "
                f"{self.weight_decay} not negative."
            )


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
class Profiles:
    """The profiles of users, as codes; see `value_codes`."""

    train_UW: torch.Tensor
    """The codes of the training users."""
    judged_BW: torch.Tensor
    """The codes of the development users."""
    num_values: int
    """V, code 0 included."""


def meta_learned(
    rows: Ragged,
    judged: Tasks | None,
    profiles: Profiles,
    num_items: int,
    value_range: tuple[float, float] | None,
    config: ChoiceConfig,
    seed: int,
    device: torch.device,
    *,
    in_order: bool,
    num_next: int,
    epochs: int | None = None,
) -> ChoiceHead:
    """Return a trained head.

    Args:
        rows: of the training users, in time order where there are times.
        judged: development users, whose choices after their whole support decide when to stop, or
            None.
        profiles: of the training users and of the development users.
        value_range: the range of the values, which say how much a row was liked, or None if they do
            not.
        num_next: the number of rows that an episode predicts.
        epochs: the number of passes, or None for the number that makes the development users'
            choices most likely.
    """
    generator = torch.Generator().manual_seed(seed)
    count_I = np.bincount(rows.item, minlength=num_items)
    num_factors = max(1, min(config.num_factors, MOST_NUMBERS // max(num_items, 1)))
    config = dataclasses.replace(config, num_factors=num_factors)
    factorisation = WeightedALSConfig(num_factors=num_factors, confidence=CONFIDENCE)
    head = ChoiceHead.init(
        count_I,
        factorise_weighted(rows, num_items, factorisation, seed),
        factorisation.regularisation,
        config.num_steps,
        most_rows=config.most_rows,
        in_order=in_order,
        num_profile_values=profiles.num_values,
    ).to(device)
    sampler = _Sampler(rows, profiles.train_UW, value_range, config, num_next, in_order)
    judges = None
    if judged is not None and len(judged):
        judges = _judged(judged, profiles.judged_BW, value_range).to(device)
    params = {name: p.clone() for name, p in head.params.items()}
    optimiser = OuterOptimiser(
        params,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        clip_norm=5.0,
    )
    best, best_loss = head, math.inf if judges is None else _loss(head, judges)
    for number in range(1, (config.epochs if epochs is None else epochs) + 1):
        draws = np.random.default_rng((seed, number))
        for episodes in sampler.epoch(draws):
            gradients, loss = meta_gradient(params, episodes.to(device), config, generator)
            if not math.isfinite(loss) or not math.isfinite(optimiser.step(gradients)):
                raise UserError(
                    f"the loss of what users take next is not a number in pass {number}: lower "
                    "choices.learning_rate."
                )
        copied = {name: p.clone() for name, p in params.items()}
        trained = head.trained(copied, count_I, number)
        if epochs is not None or judges is None:
            best = trained
            continue
        loss = _loss(trained, judges)
        if loss < best_loss:
            best, best_loss = trained, loss
        elif number - best.epochs >= config.patience:
            break
    return best


def meta_gradient(
    params: Params, episodes: Episodes, config: ChoiceConfig, generator: torch.Generator
) -> tuple[Params, float]:
    """Return the exact gradient of the episodes' mean loss, and the loss.

    Args:
        generator: draws the sample of the catalogue and what is left out of users.
    """
    num_users, num_items = len(episodes.mask_BS), len(params[POPULARITY])
    device = params[POPULARITY].device
    sample_N, log_stands_N = _sample(episodes, num_items, config.catalogue_sample, generator)
    place_I = torch.full((num_items,), -1, device=device)
    place_I[sample_N] = torch.arange(len(sample_N), device=device)
    kept_BD = torch.rand((num_users, config.num_factors), generator=generator) >= config.dropout
    kept_BD = (kept_BD / (1 - config.dropout)).to(device)
    whole = len(sample_N) == num_items
    shared = {
        name: p if whole or name not in BY_ITEM else p[sample_N]
        for name, p in params.items()
        if name != UNMET
    }

    def work(first: int) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
        leaves = {name: p.detach().requires_grad_() for name, p in shared.items()}
        some = episodes.part(first, first + USERS_AT_ONCE)
        kept_bD = kept_BD[first : first + USERS_AT_ONCE]
        with torch.enable_grad():
            loss_b = _losses(leaves, some, config.most_rows, place_I, log_stands_N, kept_bD)
            loss = loss_b.sum() / num_users
        return loss.detach(), torch.autograd.grad(loss, list(leaves.values()))

    total, sums = 0.0, [torch.zeros_like(p) for p in shared.values()]
    with one_thread(num_users <= USERS_AT_ONCE):  # a single share has all threads otherwise
        for loss, found in in_turn(work, range(0, num_users, USERS_AT_ONCE), device):
            total += float(loss)
            torch._foreach_add_(sums, list(found))
    gradients = dict(zip(shared, sums, strict=True))
    if not whole:
        for name in BY_ITEM:
            dense = torch.zeros_like(params[name])
            gradients[name] = dense.index_copy_(0, sample_N, gradients[name])
    return gradients, total


def _losses(
    leaves: Params,
    episodes: Episodes,
    most_rows: int,
    place_I: torch.Tensor,
    log_stands_N: torch.Tensor,
    kept_BD: torch.Tensor | None,
) -> torch.Tensor:
    """Return (B,) the mean negative log-probability of the items that users took next.

    Args:
        leaves: the parameters; those of items by place in the sample.
        place_I: the place of each item in the sample.
        log_stands_N: the logarithm of the number of items that each item of the sample represents.
        kept_BD: the dropout factors of adapted users' vectors, or None for no dropout.
    """
    # Padding may hold items outside of the sample.
    known_BS = place_I[episodes.item_BS].clamp(min=0)
    next_BQ = place_I[episodes.next_BQ].clamp(min=0)
    mask_BS = episodes.mask_BS
    log_base_N = leaves[POPULARITY] + log_stands_N
    user_BD = adapted(
        leaves,
        leaves[EXPLAINS][known_BS],
        episodes.liking_BS,
        mask_BS,
        episodes.profile_BW,
        leaves[EXPLAINS],
        log_base_N,
        most_rows=most_rows,
    )
    if kept_BD is not None:
        user_BD = user_BD * kept_BD
    score_BN = torch.addmm(log_base_N, user_BD, leaves[PREDICTS].T)
    # Known items are not predicted.
    known_BN = torch.zeros_like(score_BN).scatter_add_(1, known_BS, mask_BS.to(score_BN)) > 0
    mask_BQ = episodes.next_mask_BQ & ~known_BN.gather(1, next_BQ)
    # A user who knows all next items has nothing to predict: no item is left out of the sum.
    known_BN = known_BN & mask_BQ.any(1, keepdim=True)
    log_total_B1 = score_BN.masked_fill(known_BN, -torch.inf).logsumexp(1, keepdim=True)
    # A next item is itself alone: the items that it represents count only in the sum.
    log_share_BQ = score_BN.gather(1, next_BQ) - log_stands_N[next_BQ] - log_total_B1
    num_next_B = mask_BQ.sum(1).clamp(min=1)
    return -torch.where(mask_BQ, log_share_BQ, 0).sum(1) / num_next_B


def _sample(
    episodes: Episodes, num_items: int, size: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the items (N,) of a batch's softmax, ascending, and the logarithms (N,) of the numbers
    of items that they represent: those of the batch represent themselves, and the others represent
    all items that are not in the sample."""
    device = episodes.item_BS.device
    if num_items <= size:
        return torch.arange(num_items, device=device), torch.zeros(num_items, device=device)
    met_I = torch.zeros(num_items, dtype=torch.bool)
    met_I[episodes.item_BS[episodes.mask_BS].cpu()] = True
    met_I[episodes.next_BQ[episodes.next_mask_BQ].cpu()] = True
    drawn = torch.randint(num_items, (size,), generator=generator)
    in_sample_I = met_I.clone()
    in_sample_I[drawn] = True
    num_met, num_sampled = int(met_I.sum()), int(in_sample_I.sum())
    each = math.log(max(num_items - num_met, 1) / max(num_sampled - num_met, 1))
    sample_N = in_sample_I.nonzero()[:, 0]
    log_stands_N = torch.where(met_I[sample_N], 0.0, each)
    return sample_N.to(device), log_stands_N.to(device)


@dataclasses.dataclass(frozen=True)
class _Sampler:
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
        user_W = np.repeat(np.arange(len(length_U)), np.where(length_U >= 2, pieces_U, 0))
        times = max(1, math.ceil(FEWEST_PIECES / max(len(user_W), 1)))
        user_W = np.concatenate([generator.permutation(user_W) for _ in range(times)])
        user_W = user_W[:MOST_PIECES]
        for first in range(0, len(user_W), self.config.batch_size):
            yield self._drawn(user_W[first : first + self.config.batch_size], generator)

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


def _judged(
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


@torch.no_grad()
def _loss(head: ChoiceHead, judges: Episodes) -> float:
    """Return the mean loss of development users, over the whole catalogue, with the users' part of
    the scores multiplied by the best of `SHARPNESS`: the weights of lists are learned later, and an
    overconfident head with a good order is better than a well-calibrated one with a bad order."""
    device = head.params[POPULARITY].device
    everything_I = torch.arange(head.num_items, device=device)
    itself_I = torch.zeros(head.num_items, device=device)
    num_users = len(judges.mask_BS)
    losses = []
    for sharpness in SHARPNESS:
        params = {**head.params, PREDICTS: head.params[PREDICTS] * sharpness}

        def of_some(first: int, params: Params = params) -> torch.Tensor:
            some = judges.part(first, first + USERS_AT_ONCE)
            return _losses(params, some, head.most_rows, everything_I, itself_I, None)

        with one_thread(num_users <= USERS_AT_ONCE):
            parts = on_threads(of_some, range(0, num_users, USERS_AT_ONCE), device)
        losses.append(float(torch.cat(parts).mean()))
    return min(losses)
