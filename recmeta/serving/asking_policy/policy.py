"""A policy of what to ask next: a network over what is believed of a user.

    worth(c | belief) = k log greedy(c | belief) + network(features of c and the belief)

What an agent of RL² (Duan et al., 2016) would have to remember of its answers is here known in
closed form: the belief is the Gaussian over the user's weights and the probabilities of the latent
classes. With the network at 0, as it begins, the policy asks what is greedily best for its aim.
Candidates are told apart by their features alone, so that a policy serves any catalogue.

Legend: B users, C candidates, K latent classes, W weights, X features, H width.
"""

import dataclasses
from typing import Literal, NamedTuple

import numpy as np
import torch

from recmeta.errors import UserError
from recmeta.metalearn.learner import HasPosterior, Params
from recmeta.metalearn.model import Model
from recmeta.metalearn.networks.dense import dense, init_dense
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.evidence.familiarity import LatentClasses
from recmeta.serving.evidence.strategy import Candidates, SoFar
from recmeta.tasks.arrays import Float64Array

Aim = Literal["accuracy", "liking"]
"""What answers are asked for: predictions of what the user rates, or that the user likes what is
shown."""
NUM_FEATURES, WIDTH = 9, 16
FIRST_SHARPNESS = 1.0
"""k at the start."""
USERS_AT_ONCE = 64
TINY = 1e-9


class Questions(NamedTuple):
    """What may be asked of, as the posterior and the latent classes know it."""

    offset_C: torch.Tensor
    design_CW: torch.Tensor
    noise_C: torch.Tensor
    """value = offset + design · weights + noise of this variance, in units of the model."""
    share_C: torch.Tensor
    """The share of the training users who rated each."""
    share_KC: torch.Tensor
    """The same of each latent class's members."""
    target_WW: torch.Tensor
    """Σ_c share_c x_c x_cᵀ / Σ_c share_c: what people rate."""
    liked_from: float
    """The smallest value that says that an item was liked, in units of the model."""

    @classmethod
    def of(
        cls, model: Model, candidates: Candidates, classes: LatentClasses, liked_from: float
    ) -> "Questions":
        """Return the questions about a model's candidates.

        Args:
            liked_from: in units of the value.

        Raises:
            UserError: for a model without a posterior.
        """
        learner = model.learner
        if not isinstance(learner, HasPosterior):
            raise UserError(
                f"a learned policy needs a posterior over users, which {model.config.algorithm!r} "
                "does not have: ask by adaptive-loss, or train with --recipe bayesian-linear."
            )
        with torch.no_grad():
            rows = model.catalogue.item_rows(candidates.item_C)
            offset_1C, design_1CW, noise_1C = learner.linear_parts(model.params, rows)
        design_CW = design_1CW[0].cpu().double()
        share_C = torch.from_numpy(candidates.share_C)
        weighted_CW = design_CW * (share_C / share_C.sum())[:, None]
        return cls(
            offset_C=offset_1C[0].cpu().double(),
            design_CW=design_CW,
            noise_C=noise_1C[0].cpu().double(),
            share_C=share_C,
            share_KC=torch.from_numpy(classes.share_KC),
            target_WW=weighted_CW.T @ design_CW,
            liked_from=(liked_from - model.units.mean) / model.units.scale,
        )

    def first(self, number: int) -> "Questions":
        """Return the questions about the first candidates, which most people know."""
        return self._replace(
            offset_C=self.offset_C[:number],
            design_CW=self.design_CW[:number],
            noise_C=self.noise_C[:number],
            share_C=self.share_C[:number],
            share_KC=self.share_KC[:, :number],
        )


class Belief(NamedTuple):
    """What is believed of users after some answers."""

    mean_BW: torch.Tensor
    covariance_BWW: torch.Tensor
    member_BK: torch.Tensor
    """Probabilities of the latent classes."""
    num_asked_B: torch.Tensor
    num_answered_B: torch.Tensor


def init_policy(generator: torch.Generator) -> Params:
    """Return a policy that asks greedily."""
    params = init_dense("policy.0", NUM_FEATURES, WIDTH, generator)
    params |= init_dense("policy.1", WIDTH, 1, generator, gain=0.0)
    params["policy.log_sharpness"] = torch.tensor(FIRST_SHARPNESS).log()
    return {name: p.double() for name, p in params.items()}


def variances(questions: Questions, belief: Belief) -> tuple[torch.Tensor, torch.Tensor]:
    """Return Σ x_c (B, C, W) and x_cᵀ Σ x_c (B, C) of every candidate."""
    moved_BCW = questions.design_CW @ belief.covariance_BWW
    return moved_BCW, (moved_BCW * questions.design_CW).sum(-1)


def features(questions: Questions, belief: Belief, aim: Aim) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (B, C) the logarithm of what is greedily best for an aim, and (B, C, X) what the
    network reads."""
    moved_BCW, variance_BC = variances(questions, belief)
    total_BC = variance_BC + questions.noise_C
    fall_BC = (moved_BCW @ questions.target_WW * moved_BCW).sum(-1) / total_BC
    known_BC = belief.member_BK @ questions.share_KC
    expected_BC = questions.offset_C + belief.mean_BW @ questions.design_CW.T
    surprise_BC = (expected_BC - questions.liked_from) / total_BC.sqrt()
    liked_BC = torch.special.ndtr(surprise_BC)
    # What knowing an item says of the class: the mutual information of the two.
    about_class_BC = _entropy(known_BC) - belief.member_BK @ _entropy(questions.share_KC)
    greedy_BC = (known_BC * (fall_BC if aim == "accuracy" else liked_BC) + TINY).log()

    def shared(value_B: torch.Tensor) -> torch.Tensor:
        return value_B[:, None].expand_as(known_BC)

    columns = [
        (fall_BC + TINY).log() / 5,
        (variance_BC / questions.noise_C).log1p(),
        known_BC.log() / 3,
        about_class_BC * 10,
        surprise_BC,
        liked_BC,
        questions.share_C.log().expand_as(known_BC) / 3,
        shared(belief.num_asked_B / 10),
        shared(belief.num_answered_B / 10),
    ]
    return greedy_BC, torch.stack(columns, -1)


def logits(params: Params, greedy_BC: torch.Tensor, feature_BCX: torch.Tensor) -> torch.Tensor:
    """Return (B, C) the logarithm of how probably each candidate is asked about next, up to a
    constant."""
    hidden_BCH = torch.tanh(dense(params, "policy.0", feature_BCX))
    added_BC = dense(params, "policy.1", hidden_BCH)[..., 0]
    return params["policy.log_sharpness"].exp() * greedy_BC + added_BC


@dataclasses.dataclass(frozen=True)
class AskingPolicy:
    """The policy as a strategy, which asks what it finds most probable."""

    model: Model
    questions: Questions
    classes: LatentClasses
    params: Params
    aim: Aim = "accuracy"
    name: str = "learned-policy"

    def worth(self, so_far: SoFar) -> Float64Array:
        """Return the logits."""
        scorer, parts = Scorer.of(self.model), [np.zeros((0, len(self.questions.share_C)))]
        member_BK = self.classes.membership(so_far.known_BC, so_far.unknown_BC)
        num_known_B = so_far.known_BC.sum(1)
        num_asked_B = num_known_B + so_far.unknown_BC.sum(1)
        for first in range(0, len(so_far.users), USERS_AT_ONCE):
            some = np.arange(first, min(first + USERS_AT_ONCE, len(so_far.users)))
            state = scorer.adapt(so_far.users.take(some))
            whitener_bWW = state["whitener"].cpu().double()
            belief = Belief(
                mean_BW=state["weights"].cpu().double(),
                covariance_BWW=whitener_bWW.mT @ whitener_bWW,
                member_BK=torch.from_numpy(member_BK[some]),
                num_asked_B=torch.from_numpy(num_asked_B[some].astype(np.float64)),
                num_answered_B=torch.from_numpy(num_known_B[some].astype(np.float64)),
            )
            with torch.no_grad():
                found = logits(self.params, *features(self.questions, belief, self.aim))
            parts.append(found.numpy())
        return np.concatenate(parts)


def _entropy(share: torch.Tensor) -> torch.Tensor:
    """Return the entropy of yes or no with this probability of yes, in nats."""
    share = share.clamp(TINY, 1 - TINY)
    return -share * share.log() - (1 - share) * (-share).log1p()
