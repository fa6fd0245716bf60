"""A generator of a user's preferences against a critic (CFGAN: Chae, Kang, Kim, Lee, CIKM 2018;
between tasks of a few rows: MetaGAN, Zhang, Che, Ghahramani, Bengio, Song, NeurIPS 2018).

    z_m ~ N(0, I),   w_m, b_m = taste(support, profile, z_m)          m = 1 … num_draws
    generator: value_i ~ N(expected_i + w_m·v_i + b_m, spread_i²)     ratings
               value_i ~ Bernoulli(σ(expected_i + w_m·v_i + b_m))     implicit feedback
    critic:    D(values of the query | support, profile), real or generated

    loss of the generator = −log (1/num_draws) Σ_m p(query | z_m) + λ softplus(−D(generated))
    loss of the critic    = softplus(−D(query)) + softplus(D(generated)) + (γ/2) ‖∇ D(query)‖²

The first term is the likelihood of the query under all draws of z (Foong et al., NeurIPS 2020);
without it an adversarial loss says little of any one user, for which CFGAN adds a reconstruction of
sampled zeros. Both players learn at once, by the one step of the outer optimiser. Of the usual
adversarial losses, the logistic one with a penalty on the critic's gradient at real users is proven
to converge near its equilibrium by simultaneous gradient steps (Mescheder, Geiger, Nowozin, ICML
2018, theorem 4.1); Wasserstein critics, with their gradient penalty too, need not, even in the
simplest example (§3).

What is generated is rounded to the levels of the scale, as real values are, with the gradient of
what was rounded (Bengio, Léonard, Courville, 2013): no critic can tell the two apart by fractions.

Legend: B users, S support rows, R rows, M draws, Z numbers of noise, H width, C numbers that the
generator is told, X numbers of a taste.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F

from recmeta.metalearn.heads.gaussians import fixed_noise
from recmeta.metalearn.inner_loop.amortised import (
    FIRST_STEP,
    LOG_SPREAD_RANGE,
    AmortisedConfig,
    AmortisedLearner,
    Known,
    Tokens,
)
from recmeta.metalearn.inner_loop.objectives import gaussian
from recmeta.metalearn.learner import Params, UserState
from recmeta.metalearn.learner_config import Setting
from recmeta.metalearn.networks.dense import dense, init_dense
from recmeta.metalearn.numerics.named_draws import normal_by, uniform_by
from recmeta.metalearn.tensors.batch import Rows, Support

TASTES = "tastes"
"""What the generator makes of a user with the same few draws of z for everybody, (B, M, H + 1)."""
CRITIC = "critic."
"""Begins the names of the critic's parameters."""
ROW_PRIOR = 2.0
"""The support says as much as the profile when it has so many rows."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdversarialConfig(AmortisedConfig):
    """The generator's noise, and what the critic weighs."""

    noise_dim: int = 16
    """The dimension of z, in which generated users of one profile and support differ."""
    num_draws: int = 8
    """The number of draws of z from which a likelihood, and a prediction, is computed."""
    critic_weight: float = 0.1
    """λ, the weight of the critic's judgement in the generator's loss. With 0 the generator learns
    from its likelihood alone."""
    gradient_penalty: float = 1.0
    """γ, the weight of the critic's squared gradient at real users. The length of a query's values
    is their root mean square, so that long queries are penalised as short ones are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("noise_dim", "num_draws"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("critic_weight", "gradient_penalty"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative.")

    def build(self, setting: Setting) -> "Adversarial":
        """Return the learner with these hyperparameters."""
        return Adversarial(self, setting)


class Adversarial(AmortisedLearner):
    """A user is what the generator makes of their rows, over draws of its noise."""

    def __init__(self, config: AdversarialConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.config = config
        self.lowest, self.highest = setting.value_range
        self.level_step = (
            (self.highest - self.lowest) / (config.num_levels - 1) if config.num_levels else None
        )

    def init_own(self, generator: torch.Generator) -> Params:
        """Return the parameters of generator and critic."""
        width, user_width = self.width, self.network.feature_widths[0]
        return {
            **init_dense("support.items", width, width, generator),
            **init_dense("support.values", width, width, generator),
            **init_dense("taste.told", width + user_width + 1, width, generator),
            **init_dense("taste.noise", self.config.noise_dim, width, generator, gain=FIRST_STEP),
            **init_dense("taste.out", width, width + 1, generator, gain=FIRST_STEP),
            **init_dense("items", width, width, generator),
            **init_dense("spread", width, 1, generator, gain=FIRST_STEP),
            **init_dense(f"{CRITIC}items", width, width, generator),
            **init_dense(f"{CRITIC}values", width, width, generator),
            **init_dense(f"{CRITIC}told", 2 * width + user_width, width, generator),
            **init_dense(f"{CRITIC}out", width, 1, generator),
        }

    # The generator -------------------------------------------------------------------------------

    def read(self, params: Params, known: Known) -> UserState:
        """Return the tastes of the same few draws for every user, (B, M, H + 1)."""
        like_1Z = known.user_BF.new_zeros(1, self.config.noise_dim)
        noise_MZ = fixed_noise(self.config.num_draws, like_1Z)
        return {TASTES: self._tastes(params, known, noise_MZ)}

    def decode(
        self, params: Params, state: UserState, asked: Tokens
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean over the draws, and the logarithm of the spread of draws and noise."""
        return _pooled(*self._decode(params, state[TASTES], asked))

    def draw(
        self,
        params: Params,
        support: Support,
        items: Rows,
        name_B: torch.Tensor,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Return generated values of items (B, R), in units of the model: one user with the profile
        and the support of each, on the scale's levels where it has some.

        Args:
            items: `value_BR` is not read.
            name_B: int64, what each user is drawn by: the same name gives the same user.
        """
        user_BF = self.network.embed_users(params, support.user, len(support.rows.mask_BR))
        rows = support.rows
        sides = self._embed(params, self.item_features, [rows.item_BR, items.item_BR])
        known = self._known(params, user_BF, sides[0], rows)
        asked = self._tokens(params, user_BF, sides[1], items)
        taste_BMX = self._tastes(params, known, self._noise(name_B, user_BF, generator))
        shift_BMR, log_noise_BR = self._decode(params, taste_BMX[:, :1], asked)
        mean_BR = asked.expected_BR + shift_BMR[:, 0]
        return self._sampled(mean_BR, log_noise_BR, name_B, generator)

    def _noise(
        self, name_B: torch.Tensor, like: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Return each user's own draws of z, (B, M, Z)."""
        shape = (len(name_B), self.config.num_draws, self.config.noise_dim)
        return normal_by(name_B, like.new_zeros(shape).flatten(1), generator).view(shape)

    def _tastes(self, params: Params, known: Known, noise: torch.Tensor) -> torch.Tensor:
        """Return w and b of every draw, (B, M, H + 1).

        Args:
            noise: (M, Z), the same for all, or (B, M, Z).
        """
        valued_BSH = dense(params, "support.values", known.token_BRH) * known.surprise_BR[..., None]
        row_BSH = dense(params, "support.items", known.token_BRH) + valued_BSH
        count_B1 = known.mask_BR.sum(1, keepdim=True).to(row_BSH.dtype)
        bag_BH = known.average(row_BSH, ROW_PRIOR)
        told_BC = torch.cat([bag_BH, known.user_BF, count_B1 / (count_B1 + ROW_PRIOR)], 1)
        told_BH = dense(params, "taste.told", told_BC)
        hidden_BMH = (told_BH[:, None] + dense(params, "taste.noise", noise)).relu()
        return dense(params, "taste.out", hidden_BMH)

    def _decode(
        self, params: Params, taste_BMX: torch.Tensor, asked: Tokens
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return w_m·v_i + b_m (B, M, R), and the logarithms of the noise's spreads (B, R)."""
        item_BRH = dense(params, "items", asked.token_BRH)
        product_BMR = taste_BMX[..., :-1] @ item_BRH.transpose(1, 2) / math.sqrt(self.width)
        log_noise_BR = dense(params, "spread", asked.token_BRH)[..., 0].clamp(*LOG_SPREAD_RANGE)
        return product_BMR + taste_BMX[..., -1:], log_noise_BR

    def _sampled(
        self,
        mean_BR: torch.Tensor,
        log_noise_BR: torch.Tensor,
        name_B: torch.Tensor,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Return values (B, R) as they could be real: rounded, with the gradient of what was
        rounded. A row's number is drawn by its user and its place, whatever rows follow."""
        uniform_BR = uniform_by(name_B, mean_BR.shape[1], generator)
        if not self.is_graded:
            smooth_BR = (mean_BR + uniform_BR.logit().to(mean_BR)).sigmoid()
            return _in_steps(smooth_BR, smooth_BR.round())
        noise_BR: torch.Tensor = torch.special.ndtri(uniform_BR).to(mean_BR)
        smooth_BR = (mean_BR + log_noise_BR.exp() * noise_BR).clamp(self.lowest, self.highest)
        if self.level_step is None:
            return smooth_BR
        level_BR = ((smooth_BR - self.lowest) / self.level_step).round()
        return _in_steps(smooth_BR, self.lowest + self.level_step * level_BR)

    # Learning ------------------------------------------------------------------------------------

    def task_loss(
        self,
        params: Params,
        support: Known,
        query: Known,
        name_B: torch.Tensor,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Return the sum of both players' losses, (B,), in which each one's parameters have the
        gradient of its own loss alone."""
        noise_BMZ = self._noise(name_B, support.user_BF, generator)
        taste_BMX = self._tastes(params, support, noise_BMZ)
        shift_BMR, log_noise_BR = self._decode(params, taste_BMX, query)
        loss_B = self._likelihood_loss(shift_BMR, log_noise_BR, query)
        loss_B = loss_B + self.absolute_error(params, _pooled(shift_BMR, log_noise_BR), query)
        if not self.config.critic_weight:
            return loss_B
        mean_BR = query.expected_BR + shift_BMR[:, 0]
        generated_BR = self._sampled(mean_BR, log_noise_BR, name_B, generator)
        held = {n: p.detach() for n, p in params.items() if n.startswith(CRITIC)}
        fooled_B = F.softplus(-self.judge(held, support, query, generated_BR))
        loss_B = loss_B + self.config.critic_weight * fooled_B
        return loss_B + self._critic_loss(params, support, query, generated_BR.detach())

    def _likelihood_loss(
        self, shift_BMR: torch.Tensor, log_noise_BR: torch.Tensor, rows: Known
    ) -> torch.Tensor:
        """Return −log (1/M) Σ_m p(rows | z_m) per row, (B,)."""
        losses = []
        for shift_BR in shift_BMR.unbind(1):
            mean_BR = rows.expected_BR + shift_BR
            if self.is_graded:
                spread_BR = log_noise_BR.exp()
                losses.append(gaussian(mean_BR, spread_BR, rows.value_BR, rows.mask_BR))
            else:
                losses.append(self.query_loss(mean_BR, rows.value_BR, rows.mask_BR))
        num_rows_B1 = rows.mask_BR.sum(1, keepdim=True).clamp(min=1)
        total_BM = torch.stack(losses, 1) * num_rows_B1
        return (math.log(len(losses)) - (-total_BM).logsumexp(1)) / num_rows_B1[:, 0]

    # The critic ----------------------------------------------------------------------------------

    def judge(
        self, params: Params, support: Known, query: Known, value_BR: torch.Tensor
    ) -> torch.Tensor:
        """Return D, (B,): positive where the values seem to be those that the user with this
        support and profile gave to the query's items, negative where they seem generated.

        The items' tokens and the profiles are read as they are: no gradient goes to them.
        """
        surprise_BR = (query.surprise_BR + value_BR - query.value_BR) * query.mask_BR
        judged = dataclasses.replace(query, surprise_BR=surprise_BR)
        bags = [self._bag(params, known) for known in (support, judged)]
        told_BC = torch.cat([*bags, query.user_BF.detach()], 1)
        hidden_BH = F.leaky_relu(dense(params, f"{CRITIC}told", told_BC), 0.2)
        return dense(params, f"{CRITIC}out", hidden_BH)[:, 0]

    def _bag(self, params: Params, known: Known) -> torch.Tensor:
        """Return what the critic reads of rows, (B, H)."""
        token_BRH = known.token_BRH.detach()
        valued_BRH = dense(params, f"{CRITIC}values", token_BRH) * known.surprise_BR[..., None]
        row_BRH = F.leaky_relu(dense(params, f"{CRITIC}items", token_BRH) + valued_BRH, 0.2)
        return known.average(row_BRH, ROW_PRIOR)

    def _critic_loss(
        self, params: Params, support: Known, query: Known, generated_BR: torch.Tensor
    ) -> torch.Tensor:
        """Return the critic's logistic loss and the penalty on its gradient, (B,)."""
        support = dataclasses.replace(support, surprise_BR=support.surprise_BR.detach())
        query = dataclasses.replace(query, surprise_BR=query.surprise_BR.detach())
        real_BR = query.value_BR.detach().requires_grad_()
        real_B = self.judge(params, support, query, real_BR)
        false_B = self.judge(params, support, query, generated_BR)
        (slope_BR,) = torch.autograd.grad(real_B.sum(), real_BR, create_graph=True)
        steep_B = slope_BR.square().sum(1) * query.mask_BR.sum(1)
        loss_B = F.softplus(-real_B) + F.softplus(false_B)
        return loss_B + 0.5 * self.config.gradient_penalty * steep_B


def _pooled(
    shift_BMR: torch.Tensor, log_noise_BR: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean over draws (B, R), and the logarithm of the spread of draws and noise."""
    mean_BR = shift_BMR.mean(1)
    variance_BR = (shift_BMR - mean_BR[:, None]).square().mean(1)
    return mean_BR, 0.5 * (log_noise_BR.exp().square() + variance_BR).log()


def _in_steps(smooth_BR: torch.Tensor, whole_BR: torch.Tensor) -> torch.Tensor:
    """Return whole numbers of steps, with the gradient of what was rounded to them."""
    return smooth_BR + (whole_BR - smooth_BR).detach()


LEARNER = AdversarialConfig
