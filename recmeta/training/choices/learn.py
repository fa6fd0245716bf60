"""Meta-training of a `ChoiceHead`: what users take next, given their rows so far.

The trainer of learners is not used: it draws one episode per user and pass, from all later rows,
and stops by the errors of predictions.

Legend: B development users, U training users, W values of a profile (padded).
"""

import dataclasses
import math

import numpy as np
import torch

from recmeta.errors import UserError
from recmeta.metalearn.factors.weighted_als import WeightedALSConfig, factorise_weighted
from recmeta.metalearn.heads.choice_head import ChoiceHead
from recmeta.metalearn.numerics.memory import kept_heap
from recmeta.metalearn.outer_loop.optimiser import OuterOptimiser
from recmeta.tasks import scratch
from recmeta.tasks.task_set import Ragged, Tasks
from recmeta.training.choices.config import ChoiceConfig
from recmeta.training.choices.episodes import EpisodeSampler, whole_supports
from recmeta.training.choices.gradient import mean_loss, meta_gradient

MOST_NUMBERS = 2**24
"""The most numbers of a table of vectors: a catalogue of more than 262,144 items has vectors
shorter than 64."""
CONFIDENCE = 5.0
"""The confidence of the factorisation from which training starts."""


@dataclasses.dataclass(frozen=True)
class Profiles:
    """The profiles of users, as codes; see `value_codes`."""

    train_UW: torch.Tensor
    """The codes of the training users."""
    judged_BW: torch.Tensor
    """The codes of the development users."""
    num_values: int
    """V, code 0 included."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceData:
    """The histories from which a head is learned."""

    rows: Ragged
    """The training users' rows, in time order where there are times."""
    judges: Tasks | None
    """Development users, whose choices after their whole support decide when to stop, or None."""
    profiles: Profiles
    """The profiles of the training users and of the development users."""
    num_items: int
    value_range: tuple[float, float] | None
    """The range of the values, which say how much a row was liked, or None if they do not."""
    in_order: bool
    """Whether rows are in the order of time."""
    num_next: int
    """The number of rows that an episode predicts."""


@kept_heap()
def meta_learned(
    data: ChoiceData,
    config: ChoiceConfig,
    seed: int,
    device: torch.device,
    epochs: int | None = None,
) -> ChoiceHead:
    """Return a trained head.

    Args:
        epochs: the number of passes, or None for the number that makes the development users'
            choices most likely.

    Raises:
        UserError: if a loss or a gradient is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    count_I = scratch.counts(data.rows.item, data.num_items)
    num_factors = max(1, min(config.num_factors, MOST_NUMBERS // max(data.num_items, 1)))
    config = dataclasses.replace(config, num_factors=num_factors)
    factorisation = WeightedALSConfig(num_factors=num_factors, confidence=CONFIDENCE)
    head = ChoiceHead.init(
        count_I,
        factorise_weighted(data.rows, data.num_items, factorisation, seed),
        factorisation.regularisation,
        config.num_steps,
        most_rows=config.most_rows,
        in_order=data.in_order,
        num_profile_values=data.profiles.num_values,
    ).to(device)
    sampler = EpisodeSampler(
        data.rows,
        data.profiles.train_UW,
        data.value_range,
        config,
        data.num_next,
        data.in_order,
    )
    judges = None
    if data.judges is not None and len(data.judges):
        judges = whole_supports(data.judges, data.profiles.judged_BW, data.value_range).to(device)
    params = {name: p.clone() for name, p in head.params.items()}
    optimiser = OuterOptimiser(
        params,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        clip_norm=5.0,
    )
    best, best_loss = head, math.inf if judges is None else mean_loss(head, judges)
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
        loss = mean_loss(trained, judges)
        if loss < best_loss:
            best, best_loss = trained, loss
        elif number - best.epochs >= config.patience:
            break
    return best
