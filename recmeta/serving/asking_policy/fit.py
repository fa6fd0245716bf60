"""Fits a policy of asking by reinforcement, on users who are drawn from the model's own beliefs.

    class k ~ its weight,  what the user knows ~ Π_c Bernoulli(share_kc),  w ~ N(prior of a profile)
    θ ← θ + rate · mean over users and questions of advantage ∇ log π_θ(c_t | belief_t)
    advantage = (return - mean return of question t) / standard deviation of the same

which is REINFORCE (Williams, Machine Learning 1992) in the setting of RL² (Duan et al., 2016): each
user is a task of its own, drawn anew. The steps are Adam's, of gradients whose norm is at most 1.
The return of question t is what this and all later questions gain:

    accuracy   Σ_{n ≥ t} mean over the query of (variance_{t-1} - variance_n), the posterior's,
               which is the squared error's expectation over what the user is really like
    liking     how many of the items from question t on are known and liked

Legend: B users, C candidates, K latent classes, W weights, U training users, T questions.
"""

import dataclasses

import torch

from recmeta.metalearn.learner import Params
from recmeta.metalearn.numerics.threads import one_thread
from recmeta.serving.asking_policy.policy import (
    Aim,
    Belief,
    Questions,
    features,
    init_policy,
    logits,
    variances,
)

QUERY_SHARE = 0.3
"""The share of what a simulated user knows that is predicted, and never asked about."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """How a policy is fitted; chosen on simulated users and development users."""

    aim: Aim = "accuracy"
    """What the policy is rewarded for."""
    num_questions: int = 10
    """T, the number of questions to a simulated user."""
    num_users: int = 128
    """B, the number of simulated users of a step; at least 2, since returns are compared with their
    mean."""
    num_steps: int = 150
    """The number of steps."""
    num_candidates: int = 200
    """The number of candidates that simulated users are asked about, the most popular ones."""
    learning_rate: float = 1e-2
    """The learning rate of Adam."""
    seed: int = 0
    """The seed of the simulated users and of what is tried."""

    def __post_init__(self) -> None:
        for name in ("num_questions", "num_users", "num_steps", "num_candidates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.num_users < 2:
            raise ValueError(
                "num_users is 1; it must be at least 2, since returns are compared with their mean."
            )


@dataclasses.dataclass(frozen=True)
class Prior:
    """What is believed of users before any answer."""

    mean_UW: torch.Tensor
    """Of the profiles of training users."""
    whitener_UWW: torch.Tensor
    weight_K: torch.Tensor
    """How common each latent class is."""


@dataclasses.dataclass(frozen=True)
class Simulated:
    """Users who were drawn, and what is believed of them at first."""

    answers_BC: torch.Tensor
    """Whether they would answer about a candidate."""
    query_BC: torch.Tensor
    """Candidates that they know and that are to be predicted."""
    value_BC: torch.Tensor
    """What they would say of every candidate, in units of the model."""
    belief: Belief


def simulate(
    prior: Prior, questions: Questions, num_users: int, generator: torch.Generator
) -> Simulated:
    """Draw users from what is believed."""
    place_B = torch.randint(0, len(prior.mean_UW), (num_users,), generator=generator)
    mean_BW, whitener_BWW = prior.mean_UW[place_B], prior.whitener_UWW[place_B]
    normal_BW = torch.randn(mean_BW.shape, generator=generator, dtype=mean_BW.dtype)
    weights_BW = mean_BW + (whitener_BWW.mT @ normal_BW[..., None])[..., 0]
    class_B = torch.multinomial(prior.weight_K, num_users, replacement=True, generator=generator)
    share_BC = questions.share_KC[class_B]
    knows_BC = torch.rand(share_BC.shape, generator=generator) < share_BC
    is_query_BC = torch.rand(share_BC.shape, generator=generator) < QUERY_SHARE
    noise_BC = torch.randn(share_BC.shape, generator=generator, dtype=mean_BW.dtype)
    value_BC = questions.offset_C + weights_BW @ questions.design_CW.T
    zeros_B = torch.zeros(num_users, dtype=mean_BW.dtype)
    return Simulated(
        answers_BC=knows_BC & ~is_query_BC,
        query_BC=knows_BC & is_query_BC,
        value_BC=value_BC + noise_BC * questions.noise_C.sqrt(),
        belief=Belief(
            mean_BW=mean_BW,
            covariance_BWW=whitener_BWW.mT @ whitener_BWW,
            member_BK=prior.weight_K.expand(num_users, -1),
            num_asked_B=zeros_B,
            num_answered_B=zeros_B,
        ),
    )


def after_asking(
    questions: Questions, belief: Belief, place_B: torch.Tensor, people: Simulated
) -> tuple[Belief, torch.Tensor]:
    """Return what is believed once users were asked about a candidate each, and (B,) whether they
    answered."""
    everyone = torch.arange(len(place_B))
    answers_B = people.answers_BC[everyone, place_B]
    share_BK = questions.share_KC[:, place_B].T
    likely_BK = torch.where(answers_B[:, None], share_BK, 1 - share_BK) * belief.member_BK
    design_BW = questions.design_CW[place_B]
    moved_BW = (belief.covariance_BWW @ design_BW[..., None])[..., 0]
    total_B = (moved_BW * design_BW).sum(1) + questions.noise_C[place_B]
    expected_B = questions.offset_C[place_B] + (belief.mean_BW * design_BW).sum(1)
    surprise_B = people.value_BC[everyone, place_B] - expected_B
    gain_BW = moved_BW / total_B[:, None] * answers_B[:, None]
    return Belief(
        mean_BW=belief.mean_BW + gain_BW * surprise_B[:, None],
        covariance_BWW=belief.covariance_BWW - gain_BW[:, :, None] * moved_BW[:, None],
        member_BK=likely_BK / likely_BK.sum(1, keepdim=True),
        num_asked_B=belief.num_asked_B + 1,
        num_answered_B=belief.num_answered_B + answers_B,
    ), answers_B


def fit_policy(prior: Prior, questions: Questions, config: PolicyConfig) -> Params:
    """Return a policy that was fitted to simulated users."""
    generator = torch.Generator().manual_seed(config.seed)
    params = {n: p.requires_grad_() for n, p in init_policy(generator).items()}
    some = questions.first(config.num_candidates)
    optimiser = torch.optim.Adam(params.values(), lr=config.learning_rate)
    with one_thread(True):
        for _ in range(config.num_steps):
            people = simulate(prior, some, config.num_users, generator)
            log_share_TB, return_TB = _interview(params, some, people, config, generator)
            advantage_TB = return_TB - return_TB.mean(1, keepdim=True)
            advantage_TB = advantage_TB / return_TB.std(1, keepdim=True).clamp(min=1e-9)
            optimiser.zero_grad()
            loss = -(log_share_TB * advantage_TB).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(params.values(), 1.0)
            optimiser.step()
    return {n: p.detach() for n, p in params.items()}


@torch.no_grad()
def simulated_return(
    params: Params, prior: Prior, questions: Questions, config: PolicyConfig, num_users: int
) -> float:
    """Return what a policy that asks what it finds most probable gains of simulated users, a mean;
    those of one seed are the same for every policy."""
    some = questions.first(config.num_candidates)
    generator = torch.Generator().manual_seed(config.seed + 1)
    people = simulate(prior, some, num_users, generator)
    _, return_TB = _interview(params, some, people, config, None)
    return float(return_TB[0].mean())


def _interview(
    params: Params,
    questions: Questions,
    people: Simulated,
    config: PolicyConfig,
    generator: torch.Generator | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (T, B) the log-probabilities of what was asked, and the returns.

    Args:
        generator: draws what is asked; if None, it is what is most probable.
    """
    belief, asked_BC = people.belief, torch.zeros_like(people.answers_BC)
    everyone = torch.arange(len(asked_BC))
    log_shares, gains = [], [_error(questions, belief, people)]
    for _ in range(min(config.num_questions, asked_BC.shape[1])):
        logit_BC = logits(params, *features(questions, belief, config.aim))
        log_share_BC = logit_BC.masked_fill(asked_BC.clone(), -torch.inf).log_softmax(1)
        if generator is None:
            place_B = log_share_BC.argmax(1)
        else:
            share_BC = log_share_BC.detach().exp()
            place_B = torch.multinomial(share_BC, 1, generator=generator)[:, 0]
        log_shares.append(log_share_BC[everyone, place_B])
        asked_BC[everyone, place_B] = True
        belief, answers_B = after_asking(questions, belief, place_B, people)
        if config.aim == "accuracy":
            gains.append(_error(questions, belief, people))
        else:
            value_B = people.value_BC[everyone, place_B]
            gains.append((answers_B & (value_B >= questions.liked_from)).double())
    found_TB = torch.stack(gains[1:])
    later_TB = found_TB.flip(0).cumsum(0).flip(0)
    if config.aim == "liking":
        return torch.stack(log_shares), later_TB
    before_TB = torch.stack(gains[:-1])
    left_T1 = torch.arange(len(found_TB), 0, -1)[:, None]
    return torch.stack(log_shares), left_T1 * before_TB - later_TB


def _error(questions: Questions, belief: Belief, people: Simulated) -> torch.Tensor:
    """Return (B,) the expected squared error of what is to be predicted; 0 where nothing is."""
    query_BC = people.query_BC.double()
    _, variance_BC = variances(questions, belief)
    return (variance_BC * query_BC).sum(1) / query_BC.sum(1).clamp(min=1)
