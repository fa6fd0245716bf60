"""Fits the prior-fitted network to episodes of synthetic logs.

    loss = - mean over users of Σ_{i liked} log softmax(log-odds + log weight)_i / number liked
           + value_weight · mean over rated candidates of -log N(value; mean, spread²)

which is the prior's predictive distribution, approximated over everything the generator can draw
(Müller et al., Transformers can do Bayesian inference, ICLR 2022, eq. 2). Logs are drawn once and
gone through several times in another order.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from recmeta.metalearn.learner import Params
from recmeta.metalearn.numerics.threads import one_thread
from recmeta.metalearn.prior_fitted.network import (
    Outputs,
    evidence_of_rows,
    init_network,
    outputs,
    user_state,
)
from recmeta.training.prior_fitted.episodes import Episode, episode
from recmeta.training.prior_fitted.synthetic_logs import draw_log, held_out

LOG_SPREAD_RANGE = (-3.0, 2.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """How the prior is fitted. Chosen on synthetic logs of another seed."""

    num_logs: int = 400
    """The number of logs that are drawn."""
    epochs: int = 6
    """The passes over them. The learning rate rises over the first 50 steps, and falls to 0 over
    the last two thirds of all steps."""
    learning_rate: float = 3e-3
    """The learning rate of AdamW."""
    weight_decay: float = 1e-3
    """The weight decay of AdamW."""
    value_weight: float = 0.5
    """The weight of ratings' log-likelihood beside that of what is taken."""
    seed: int = 0
    """The seed of logs, of initial weights and of the order of logs."""


def draw_episodes(num: int, seed: int) -> list[Episode]:
    """Return the episodes of so many logs; log n depends on the seed and n alone."""
    found = []
    for number in range(num):
        generator = np.random.default_rng([seed, number])
        log = draw_log(generator)
        drawn = episode(log, held_out(log, generator), generator)
        if drawn is not None:
            found.append(drawn)
    return found


def fit_prior(
    config: PriorConfig,
    episodes: Sequence[Episode],
    on_epoch: Callable[[int, float, Params], None] = lambda number, loss, params: None,
) -> Params:
    """Return the network's weights.

    Args:
        episodes: of `draw_episodes`.
        on_epoch: called after each pass with its number, its mean loss and the weights so far.
    """
    generator = torch.Generator().manual_seed(config.seed)
    params = {n: p.requires_grad_() for n, p in init_network(generator).items()}
    optimiser = torch.optim.AdamW(
        params.values(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    num_steps, step = config.epochs * len(episodes), 0
    with one_thread(True):
        for number in range(1, config.epochs + 1):
            total = 0.0
            for place in torch.randperm(len(episodes), generator=generator).tolist():
                left = 1 - step / num_steps
                for group in optimiser.param_groups:
                    group["lr"] = config.learning_rate * min(1.0, 1.5 * left, (step + 1) / 50)
                optimiser.zero_grad()
                loss = episode_loss(params, episodes[place], config.value_weight)
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(params.values(), 1.0)
                optimiser.step()
                total += float(loss.detach())
                step += 1
            on_epoch(number, total / len(episodes), _detached(params))
    return _detached(params)


def episode_outputs(weights: Params, one: Episode) -> Outputs:
    """Return what the network says of an episode's candidates, (B, M) each."""
    params = weights | one.statistics
    state = user_state(
        params, one.code_BS, one.value_BS, one.past_BSD, one.mask_BS, is_graded=one.is_graded
    )
    evidence_BME = evidence_of_rows(params, state, one.candidate_BM)
    return outputs(params, state, evidence_BME, one.candidate_BM, one.past_BMD)


def episode_loss(weights: Params, one: Episode, value_weight: float) -> torch.Tensor:
    """Return the loss of an episode's users."""
    found = episode_outputs(weights, one)
    log_share_BM = (found.taken + one.log_weight_BM).log_softmax(1)
    liked_BM = one.liked_BM.float()
    of_lists_B = -(log_share_BM.nan_to_num(neginf=0.0) * liked_BM).sum(1) / liked_BM.sum(1)
    if not one.is_graded:
        return of_lists_B.mean()
    log_spread_BM = found.log_spread.clamp(*LOG_SPREAD_RANGE)
    error_BM = (one.value_BM - found.value) * (-log_spread_BM).exp()
    of_values_BM = 0.5 * error_BM.square() + log_spread_BM + 0.5 * math.log(2 * math.pi)
    of_values = of_values_BM[one.rated_BM].mean()
    return of_lists_B.mean() + value_weight * of_values


def _detached(params: Params) -> Params:
    return {name: p.detach().clone() for name, p in params.items()}
