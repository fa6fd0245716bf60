"""The loss of what users take next, and its gradient through the inner steps.

The loss is the softmax over the catalogue without the known rows, or over a sample of it whose
items are weighted to represent the others; it is differentiated through the inner steps. A batch is
computed in shares of `USERS_AT_ONCE` users whose gradients are added in order, which gives the same
bits for any number of threads.

Legend: B users of a batch, S known rows, Q next rows, I items, N items of a sample, D numbers of a
vector.
"""

import math
from collections.abc import Sequence

import torch

from recmeta.metalearn.heads.choice_head import (
    BY_ITEM,
    EXPLAINS,
    POPULARITY,
    PREDICTS,
    UNMET,
    ChoiceHead,
    adapted,
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


@torch.no_grad()
def mean_loss(head: ChoiceHead, judges: Episodes) -> float:
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
