"""The prior-fitted network: what a log's statistics and a user's rows say of each item.

    e_i  = Σ_{s ∈ S, together_si > 0} pair(statistics of s and i, the value of s) / √(1 + |S|)
    v_i  = √count_i vector_i · Σ_{s ∈ S} vector_s / √count_s     with the first 4, 16, 64 factors
    log-odds that i is taken next, value of i, its spread
         = item(e_i, v_i, statistics of i, of S and of the log) + (log count_i, mean of i, 0)

Only pairs that somebody took together pass through `pair`, so that a catalogue costs what its
neighbours cost. Items are told apart by their statistics alone: the network is equivariant to
permutations of items and invariant to those of the support (deep sets: Zaheer et al., NeurIPS
2017).

Legend: B users, S support rows (padded), R rows, C codes of items, K neighbours, F factors,
P pairs, E numbers of evidence, D item statistics of `Rows`, X inputs, H width.
"""

from typing import NamedTuple

import torch

from recmeta.metalearn.learner import Params, UserState
from recmeta.metalearn.networks.dense import dense, init_dense
from recmeta.metalearn.prior_fitted.log_statistics import (
    AGREEMENT,
    COUNT,
    NEIGHBOUR,
    RECENT_SHARES,
    SIZE,
    TOGETHER,
    VECTOR,
)
from recmeta.metalearn.tensors.batch import POPULARITY_SCALE

PREFIX = "prior."
"""How the names of the network's weights begin."""
RANKS = (4, 16, 64)
"""How many factors each estimate of a user's taste reads."""
PAIR_WIDTH, NUM_EVIDENCE, ITEM_WIDTH = 24, 12, 48
NUM_PAIR_INPUTS, NUM_ITEM_INPUTS, NUM_USER_INPUTS, NUM_LOG_INPUTS = 11, 7, 4, 4
AGREEMENT_PRIOR = 3.0
"""Pairs of ratings of a correlation of 0 that an agreement is averaged with."""
VALUE_PRIOR = 3.0
"""Rows of an average user that a user's mean is averaged with."""
CODE, VALUE, TASTE, USER = "prior.code", "prior.value", "prior.taste", "prior.user"
"""What is kept of users: their items' codes, −1 where padded (B, S); their values (B, S); the sum
of their items' vectors (B, F); what is said of the user and the log (B, ·)."""


class Outputs(NamedTuple):
    """What is said of rows, (B, R) each."""

    taken: torch.Tensor
    """Log-odds of being taken next, up to a constant of each user."""
    value: torch.Tensor
    """In units of the model; nothing where feedback is implicit."""
    log_spread: torch.Tensor
    """The logarithm of the value's standard deviation."""


def init_network(generator: torch.Generator) -> Params:
    """Return fresh weights, with which lists are those of popularity."""
    num_inputs = NUM_EVIDENCE + len(RANKS) + NUM_ITEM_INPUTS + NUM_USER_INPUTS + NUM_LOG_INPUTS
    params = init_dense("prior.pair.0", NUM_PAIR_INPUTS, PAIR_WIDTH, generator)
    params |= init_dense("prior.pair.1", PAIR_WIDTH, NUM_EVIDENCE, generator)
    params |= init_dense("prior.item.0", num_inputs, ITEM_WIDTH, generator)
    params |= init_dense("prior.item.1", ITEM_WIDTH, ITEM_WIDTH, generator)
    return params | init_dense("prior.item.2", ITEM_WIDTH, 3, generator, gain=0.1)


def user_state(
    params: Params,
    code_BS: torch.Tensor,
    value_BS: torch.Tensor,
    past_BSD: torch.Tensor,
    mask_BS: torch.Tensor,
    *,
    is_graded: bool,
) -> UserState:
    """Return what the network keeps of users.

    Args:
        code_BS: int64 codes of the support's items, with anything where padded.
        value_BS: in units of the model.
        past_BSD: the items' statistics, as in `Rows`.
        mask_BS: false where padded.
        is_graded: whether values are ratings.
    """
    dtype = params["prior.pair.0.weight"].dtype
    known_BS = mask_BS.to(dtype)
    value_BS = value_BS.to(dtype) * known_BS if is_graded else known_BS * 0
    surprise_BS = (value_BS - past_BSD[..., 0].to(dtype)) * known_BS if is_graded else value_BS
    num_B = known_BS.sum(1)
    mean_B = surprise_BS.sum(1) / (num_B + VALUE_PRIOR)
    deviation_B = (surprise_BS.square().sum(1) / (num_B + VALUE_PRIOR)).sqrt()
    count_BS = params[COUNT][code_BS, 0].to(dtype)
    share_BS = known_BS / count_BS.clamp(min=1).sqrt()
    taste_BF = torch.einsum("bs,bsf->bf", share_BS, params[VECTOR][code_BS].to(dtype))
    popular_B = (count_BS.log1p() * known_BS).sum(1) / (num_B + 1)
    size = params[SIZE].to(dtype).log1p() / POPULARITY_SCALE
    graded = torch.full_like(num_B, float(is_graded))
    user_BX = torch.stack([num_B.log1p() / 3, mean_B, deviation_B, popular_B / 5, graded], 1)
    return {
        CODE: torch.where(mask_BS, code_BS, -1),
        VALUE: surprise_BS - mean_B[:, None] * known_BS,
        TASTE: taste_BF,
        USER: torch.cat([user_BX, size.expand(len(num_B), 3)], 1),
    }


def evidence_of_rows(params: Params, state: UserState, code_BR: torch.Tensor) -> torch.Tensor:
    """Return (B, R, E) what the users' rows say of some items of each."""
    code_BS = state[CODE]
    num_users, num_rows = code_BR.shape
    source_BS = code_BS.clamp(min=0)
    known_BSK = params[NEIGHBOUR][source_BS].long()
    asked_BSR = code_BR[:, None].expand(-1, code_BS.shape[1], -1).contiguous()
    place_BSR = torch.searchsorted(known_BSK, asked_BSR).clamp(max=known_BSK.shape[-1] - 1)
    is_pair_BSR = known_BSK.gather(2, place_BSR) == asked_BSR
    is_pair_BSR &= (code_BS >= 0)[..., None] & (asked_BSR > 0)
    user_P, row_P, asked_P = is_pair_BSR.nonzero(as_tuple=True)
    entry_P = place_BSR[user_P, row_P, asked_P]
    said_PE = _pairs(params, state, user_P, row_P, entry_P)
    found = said_PE.new_zeros((num_users * num_rows, NUM_EVIDENCE))
    found = found.index_add(0, user_P * num_rows + asked_P, said_PE)
    return found.view(num_users, num_rows, NUM_EVIDENCE)


def evidence_of_all(params: Params, state: UserState) -> torch.Tensor:
    """Return (B, C, E) what the users' rows say of every item."""
    code_BS = state[CODE]
    num_users, num_codes = len(code_BS), len(params[NEIGHBOUR])
    neighbour_BSK = params[NEIGHBOUR][code_BS.clamp(min=0)].long()
    is_pair_BSK = (neighbour_BSK < num_codes) & (code_BS >= 0)[..., None]
    user_P, row_P, entry_P = is_pair_BSK.nonzero(as_tuple=True)
    target_P = neighbour_BSK[user_P, row_P, entry_P]
    said_PE = _pairs(params, state, user_P, row_P, entry_P)
    found = said_PE.new_zeros((num_users * num_codes, NUM_EVIDENCE))
    found = found.index_add(0, user_P * num_codes + target_P, said_PE)
    return found.view(num_users, num_codes, NUM_EVIDENCE)


def outputs(
    params: Params,
    state: UserState,
    evidence_BRE: torch.Tensor,
    code_BR: torch.Tensor,
    past_BRD: torch.Tensor,
) -> Outputs:
    """Return what the network says of rows.

    Args:
        evidence_BRE: of these rows.
        code_BR: their items' codes; 1 for B where users share the rows.
        past_BRD: the items' statistics; 1 for B as well.
    """
    dtype = evidence_BRE.dtype
    shape = evidence_BRE.shape[:2]
    count_BRX = params[COUNT][code_BR].to(dtype)
    count_BR = count_BRX[..., 0]
    vector_BRF = params[VECTOR][code_BR].to(dtype) * count_BR[..., None].sqrt()
    tastes = [_product(vector_BRF[..., :rank], state[TASTE][:, :rank].to(dtype)) for rank in RANKS]
    taste_BRT = (torch.stack(tastes, -1) * 30).asinh()
    item_1RX = _item_inputs(params, count_BRX, past_BRD.to(dtype))
    user_B1X = state[USER][:, None].to(dtype)
    x_BRX = torch.cat(
        [
            evidence_BRE,
            taste_BRT,
            item_1RX.expand(*shape, -1),
            user_B1X.expand(*shape, -1),
        ],
        -1,
    )
    x_BRH = torch.relu(dense(params, "prior.item.0", x_BRX))
    x_BRH = torch.relu(dense(params, "prior.item.1", x_BRH))
    taken_BR, value_BR, log_spread_BR = dense(params, "prior.item.2", x_BRH).unbind(-1)
    return Outputs(
        taken_BR + (count_BR + 0.5).log(), value_BR + past_BRD[..., 0].to(dtype), log_spread_BR
    )


def _product(vector_BRF: torch.Tensor, taste_BF: torch.Tensor) -> torch.Tensor:
    """Return (B, R) the products of users' tastes and items; 1 for B where users share these."""
    if len(vector_BRF) == 1:
        return taste_BF @ vector_BRF[0].T
    return (vector_BRF @ taste_BF[..., None])[..., 0]


def _item_inputs(params: Params, count_BRX: torch.Tensor, past_BRD: torch.Tensor) -> torch.Tensor:
    """Return (B, R, X) what the log says of items, whoever asks."""
    num_users, num_items, num_rows = params[SIZE].to(count_BRX.dtype).unbind()
    count_BR = count_BRX[..., 0]
    usual = num_rows / num_items.clamp(min=1)
    recent = [
        ((count_BRX[..., n] + share) / (share * (count_BR + 1))).log()
        for n, share in enumerate(RECENT_SHARES, 1)
    ]
    columns = [
        count_BR.log1p() / 5,
        ((count_BR + 0.5) / (usual + 0.5)).log() / 2,
        ((count_BR + 0.5) / (num_users + 1)).log() / 5,
        *recent,
        past_BRD[..., 0],
        past_BRD[..., 1],
    ]
    return torch.stack(columns, -1)


def _pairs(
    params: Params,
    state: UserState,
    user_P: torch.Tensor,
    row_P: torch.Tensor,
    entry_P: torch.Tensor,
) -> torch.Tensor:
    """Return (P, E) what single rows of users say of single neighbours.

    Args:
        user_P: which user.
        row_P: which row of the support.
        entry_P: which neighbour of its item.
    """
    dtype = params["prior.pair.0.weight"].dtype
    source_P = state[CODE][user_P, row_P]
    target_P = params[NEIGHBOUR][source_P, entry_P].long()
    together_P = params[TOGETHER][source_P, entry_P].to(dtype)
    agreement_P = params[AGREEMENT][source_P, entry_P].to(dtype)
    source_count_P = params[COUNT][source_P, 0].to(dtype)
    target_count_P = params[COUNT][target_P, 0].to(dtype)
    num_users = params[SIZE][0].to(dtype)
    value_P = state[VALUE][user_P, row_P].to(dtype)
    correlation_P = agreement_P / (together_P + AGREEMENT_PRIOR)
    cosine_P = together_P / (source_count_P * target_count_P).clamp(min=1).sqrt()
    lift_P = together_P * (num_users + 1) / (source_count_P * target_count_P).clamp(min=1)
    num_rows_P = state[USER][user_P, 0].to(dtype)
    x_PX = torch.stack(
        [
            together_P.log1p() / 3,
            cosine_P * 4,
            lift_P.log1p() / 3,
            source_count_P.log1p() / 5,
            target_count_P.log1p() / 5,
            together_P / source_count_P.clamp(min=1) * 4,
            value_P,
            correlation_P,
            correlation_P * value_P,
            num_rows_P,
            num_users.log1p().expand_as(value_P) / 10,
        ],
        1,
    )
    said_PE = dense(params, "prior.pair.1", torch.relu(dense(params, "prior.pair.0", x_PX)))
    # The first input of USER is log(1 + |S|) / 3.
    return said_PE * torch.exp(-1.5 * num_rows_P)[:, None]
