"""The loss of what users take next, and its gradient through the inner steps.

The loss is the softmax over the catalogue without the known rows, or over a sample of it whose
items are weighted to represent the others; it is differentiated through the inner steps. A batch is
computed in shares of `USERS_AT_ONCE` users whose gradients are added in order, which gives the same
bits for any number of threads.

Legend: B users of a batch, S known rows, Q next rows, I items, N items of a sample, D numbers of a
vector.
"""

import dataclasses
import math
from typing import Any, NamedTuple, Self

import torch
from torch.autograd.function import once_differentiable

from recmeta.metalearn.heads.choice_head import (
    BY_ITEM,
    EXPLAINS,
    POPULARITY,
    PREDICTS,
    START,
    UNMET,
    ChoiceHead,
    adapted,
    expected_at_start,
)
from recmeta.metalearn.learner import Params
from recmeta.metalearn.numerics.threads import in_turn, on_threads, one_thread
from recmeta.training.choices.config import ChoiceConfig
from recmeta.training.choices.episodes import Episodes

USERS_AT_ONCE = 32
SHARPNESS = (0.4, 0.6, 0.8, 1.0)
"""The factors that are tried for the users' part of the scores, which is added to popularity:
passes are compared with the best factor."""


def meta_gradient(
    params: Params, episodes: Episodes, config: ChoiceConfig, generator: torch.Generator
) -> tuple[Params, float]:
    """Return the exact gradient of the episodes' mean loss, and the loss.

    What all users share is computed once for the batch: the vectors of the sample, and the mean
    vector that the first step expects.

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
        name: p if whole or name not in BY_ITEM else p.index_select(0, sample_N)
        for name, p in params.items()
        if name != UNMET
    }
    at_start = (EXPLAINS, POPULARITY, START)
    with one_thread(device.type == "cpu"):  # several would share the sums of long products
        leaves = {name: shared[name].detach().requires_grad_() for name in at_start}
        with torch.enable_grad():
            log_base_N = leaves[POPULARITY] + log_stands_N
            expected_D = expected_at_start(leaves, leaves[EXPLAINS], log_base_N)

    def work(first: int) -> _Share:
        some = episodes.part(first, first + USERS_AT_ONCE)
        kept_bD = kept_BD[first : first + USERS_AT_ONCE]
        return _share(shared, expected_D, some, config, (place_I, log_stands_N), kept_bD, num_users)

    total, by_expected_D = 0.0, torch.zeros_like(expected_D)
    gradients = {name: torch.zeros_like(p) for name, p in shared.items()}
    with one_thread(num_users <= USERS_AT_ONCE):  # a single share has all threads otherwise
        for share in in_turn(work, range(0, num_users, USERS_AT_ONCE), device):
            total += float(share.loss)
            by_expected_D += share.by_expected_D
            rows_ND = share.by_support_bSD.flatten(0, 1)
            gradients[EXPLAINS].index_add_(0, share.place_bS.flatten(), rows_ND)
            for name, gradient in share.gradients.items():
                gradients[name] += gradient
    with one_thread(device.type == "cpu"):
        through = torch.autograd.grad(expected_D, list(leaves.values()), by_expected_D)
    for name, gradient in zip(leaves, through, strict=True):
        gradients[name] += gradient
    if not whole:
        for name in BY_ITEM:
            dense = torch.zeros_like(params[name])
            gradients[name] = dense.index_copy_(0, sample_N, gradients[name])
    return gradients, total


class _Share(NamedTuple):
    """The loss of some of a batch's users, and its gradients."""

    loss: torch.Tensor
    gradients: Params
    """With respect to the parameters; of an item's vectors, without what goes through the two
    below."""
    by_expected_D: torch.Tensor
    """With respect to the mean vector that the first step expects."""
    by_support_bSD: torch.Tensor
    """With respect to the vectors of the users' rows."""
    place_bS: torch.Tensor
    """The places of these rows in the sample."""


def _share(
    shared: Params,
    expected_D: torch.Tensor,
    episodes: Episodes,
    config: ChoiceConfig,
    sample: tuple[torch.Tensor, torch.Tensor],
    kept_bD: torch.Tensor,
    num_users: int,
) -> _Share:
    """Return the share of some users in the mean loss of a batch.

    Args:
        shared: the parameters; those of items by place in the sample.
        sample: the place of each item in the sample, and the logarithm of the number of items that
            each item of the sample represents.
        kept_bD: the dropout factors of adapted users' vectors.
        num_users: the number of users of the batch.
    """
    place_I, log_stands_N = sample
    asked = _Asked.of(episodes, place_I, expected_D.dtype)
    leaves = {name: p.detach().requires_grad_() for name, p in shared.items()}
    expected_D = expected_D.detach().requires_grad_()
    support_bSD = shared[EXPLAINS][asked.known_BS].requires_grad_()
    with torch.enable_grad():
        log_base_N = leaves[POPULARITY] + log_stands_N
        user_bD = adapted(
            leaves,
            support_bSD,
            episodes.liking_BS,
            episodes.mask_BS,
            episodes.profile_BW,
            leaves[EXPLAINS],
            log_base_N,
            most_rows=config.most_rows,
            expected_D=expected_D,
        )
        arguments = (user_bD * kept_bD, leaves[PREDICTS], log_base_N, asked)
        loss_b: torch.Tensor = _Loss.apply(*arguments)  # type: ignore[no-untyped-call]
        loss = loss_b.sum() / num_users
    wanted = [expected_D, support_bSD, *leaves.values()]
    found = torch.autograd.grad(loss, wanted, allow_unused=True)
    by_name = zip(leaves, found[2:], strict=True)
    gradients = {name: gradient for name, gradient in by_name if gradient is not None}
    return _Share(loss.detach(), gradients, found[0], found[1], asked.known_BS)


@torch.no_grad()
def mean_loss(head: ChoiceHead, judges: Episodes) -> float:
    """Return the mean loss of development users, over the whole catalogue, with the users' part of
    the scores multiplied by the best of `SHARPNESS`: the weights of lists are learned later, and an
    overconfident head with a good order is better than a well-calibrated one with a bad order."""
    params, num_users = head.params, len(judges.mask_BS)
    device = params[POPULARITY].device
    everything_I = torch.arange(head.num_items, device=device)
    with one_thread(device.type == "cpu"):  # several would share the sum
        expected_D = head.expected_D

    def of_some(first: int) -> torch.Tensor:
        """Return the losses of some users for each sharpness."""
        some = judges.part(first, first + USERS_AT_ONCE)
        asked = _Asked.of(some, everything_I, expected_D.dtype)
        user_bD = adapted(
            params,
            params[EXPLAINS][asked.known_BS],
            some.liking_BS,
            some.mask_BS,
            some.profile_BW,
            params[EXPLAINS],
            params[POPULARITY],
            most_rows=head.most_rows,
            expected_D=expected_D,
        )
        own_bI = user_bD @ params[PREDICTS].T
        own_bQ = own_bI.gather(1, asked.next_BQ)
        base_bQ = params[POPULARITY][asked.next_BQ]
        asked.leave_out_known(own_bI)
        losses = []
        for sharpness in SHARPNESS:
            score_bI = torch.add(params[POPULARITY], own_bI, alpha=sharpness)
            log_share_bQ = base_bQ + sharpness * own_bQ - score_bI.logsumexp(1, keepdim=True)
            losses.append(-(log_share_bQ * asked.share_BQ).sum(1))
        return torch.stack(losses, 1)

    with one_thread(num_users <= USERS_AT_ONCE):
        parts = on_threads(of_some, range(0, num_users, USERS_AT_ONCE), device)
    return float(torch.cat(parts).mean(0).min())


@dataclasses.dataclass(frozen=True)
class _Asked:
    """The rows of episodes by place in a sample of the catalogue. Padding may have any place."""

    known_BS: torch.Tensor
    next_BQ: torch.Tensor
    share_BQ: torch.Tensor
    """The share of each next row in the user's loss; 0 for padding and for known items, which are
    not predicted."""
    left_out: tuple[torch.Tensor, torch.Tensor]
    """The users and places of known items."""

    @classmethod
    def of(cls, episodes: Episodes, place_I: torch.Tensor, dtype: torch.dtype) -> Self:
        """Return the rows of episodes.

        Args:
            place_I: the place of each item in the sample, negative for one that is not in it.
            dtype: that of the losses.
        """
        known_BS = place_I[episodes.item_BS].clamp(min=0)
        next_BQ = place_I[episodes.next_BQ].clamp(min=0)
        is_same_BQS = next_BQ[:, :, None] == known_BS[:, None]
        is_known_BQ = (is_same_BQS & episodes.mask_BS[:, None]).any(2)
        is_asked_BQ = episodes.next_mask_BQ & ~is_known_BQ
        num_asked_B1 = is_asked_BQ.sum(1, keepdim=True)
        # A user who knows all next items has nothing to predict: no item is left out of the sum.
        users, slots = (episodes.mask_BS & (num_asked_B1 > 0)).nonzero(as_tuple=True)
        return cls(
            known_BS,
            next_BQ,
            is_asked_BQ.to(dtype) / num_asked_B1.clamp(min=1),
            (users, known_BS[users, slots]),
        )

    def leave_out_known(self, score_BN: torch.Tensor) -> None:
        """Set the scores of known items to -inf, in place."""
        score_BN[self.left_out] = -torch.inf


class _Loss(torch.autograd.Function):
    """The users' mean negative log-probability of the items that they took next.

    The scores are the largest tensor of a step: they become odds in place, which the derivative
    needs, and nothing else of this size is written but that derivative.
    """

    @staticmethod
    def forward(
        ctx: Any,
        user_BD: torch.Tensor,
        predicts_ND: torch.Tensor,
        log_base_N: torch.Tensor,
        asked: _Asked,
    ) -> torch.Tensor:
        score_BN = torch.addmm(log_base_N, user_BD, predicts_ND.T)
        next_BQ = score_BN.gather(1, asked.next_BQ)
        asked.leave_out_known(score_BN)
        most_B1 = score_BN.amax(1, keepdim=True)
        odds_BN = score_BN.sub_(most_B1).exp_()
        total_B1 = odds_BN.sum(1, keepdim=True)
        ctx.save_for_backward(user_BD, predicts_ND, odds_BN, total_B1)
        ctx.asked = asked
        log_share_BQ = next_BQ - most_B1 - total_B1.log()
        return -(log_share_BQ * asked.share_BQ).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_B: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        user_BD, predicts_ND, odds_BN, total_B1 = ctx.saved_tensors
        by_BQ = gradient_B[:, None] * ctx.asked.share_BQ
        slope_BN = odds_BN * (by_BQ.sum(1, keepdim=True) / total_B1)
        slope_BN.scatter_add_(1, ctx.asked.next_BQ, -by_BQ)
        return slope_BN @ predicts_ND, slope_BN.T @ user_BD, slope_BN.sum(0), None


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
