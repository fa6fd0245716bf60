"""Bayesian linear regression on meta-learned item vectors: adaptation in closed form.

    value_ui = offset_i + w_u · [1, x_i] + noise,   noise ~ N(0, σ_i²)
    w_u ~ N(m(profile, support items), Λ⁻¹)

The posterior of w_u given the support is exact (one Cholesky factorisation), and the query loss is
differentiated through it to learn vectors, prior and noise together: ALPaCA (Harrison, Sharma,
Pavone, WAFR 2018), R2-D2 (Bertinetto et al., ICLR 2019), here with a prior that depends on who the
user is and on what they chose to rate, a noise that depends on the item, and the median as the
prediction where absolute errors count.

Legend: B users, S support rows (padded), R rows, U distinct items, X numbers of an item vector
(offset, factors, log noise), W = 1 + factors weights of a user.
"""

import dataclasses
import functools
import math
from typing import Literal, Self

import torch
import torch.nn.functional as F

from recmeta.metalearn.heads.median import MedianOfLevels
from recmeta.metalearn.inner_loop.linear_posterior import all_then_without, means_without, posterior
from recmeta.metalearn.inner_loop.objectives import ObjectiveName, gaussian, loss_of
from recmeta.metalearn.learner import Metrics, Params, Prediction, UserState
from recmeta.metalearn.learner_config import LearnerConfig, Setting
from recmeta.metalearn.networks.embedding import distinct
from recmeta.metalearn.networks.item_vectors import ItemVectors
from recmeta.metalearn.networks.user_prior import (
    PRIOR_LOG_PRECISION,
    PRIOR_MEAN,
    prior_mean,
    user_name,
)
from recmeta.metalearn.numerics.named_draws import uniform_by
from recmeta.metalearn.numerics.threads import one_thread
from recmeta.metalearn.starts.bayesian_linear_start import (
    LOG_NOISE,
    PRIOR_BY_SUPPORT,
    rescaled,
    start_from_factorisation,
)
from recmeta.metalearn.starts.beginning import Built, Start, StartInputs
from recmeta.metalearn.starts.content_transfer import start_item_vectors
from recmeta.metalearn.tensors.batch import Places, Rows, Support, TaskBatch
from recmeta.metalearn.tensors.encoding import Features, Field
from recmeta.tasks.task_set import Objective

SUPPORT_SHRINKAGE = 3.0
"""The mean of the support's vectors is shrunk to 0 as if by this many more rows."""
MOST_OF_VALUES = 0.5
LOG_NOISE_RANGE = (-6.0, 6.0)
LOG_PRECISION_RANGE = (-4.0, 8.0)
"""Within these bounds the posterior's precision is far from singular in float32."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BayesianLinearConfig(LearnerConfig):
    """The regression, and how it is learned."""

    num_factors: int = 16
    """The length of an item's vector, on which a user's weights act, without the constant."""
    estimate: Literal["median", "mean"] = "median"
    """What is predicted. `median`, on a scale of `num_levels` levels, has the least absolute error;
    `mean` has the least squared error and is what Bayesian linear regression gives. The choice has
    no effect on implicit feedback, where the mean is a logit."""
    num_levels: int | None = None
    """The number of levels of the scale of values, evenly spaced over its range: 5 for one to five
    stars. If not set, it is the number of levels of the meta-training values; where these have no
    levels, the mean is predicted."""
    hidden_share: float = 0.5
    """The share of training users for whom every item is new, described by its content alone."""
    identity_penalty: float = 1e-2
    """The weight, in the meta-training loss, of the squared norm of the items' identities, their
    part beyond the factors."""
    use_statistics: bool = False
    """Whether the item's past (mean value, popularity) contributes to its offset and noise."""
    learn_content: bool = False
    """Whether the content tables continue to learn after the factorisation has found them. They
    must learn where there is no factorisation (implicit feedback, `start = "random"`)."""
    outer_objective: ObjectiveName | None = None
    """The loss of the query, in units of the model. If not set, it is `absolute` for ratings and
    `bce` for implicit feedback."""
    likelihood_weight: float | None = None
    """The weight of the Gaussian log-likelihood of the query beside the loss of its medians. The
    likelihood keeps the expected values, by which items are ordered. If not set, it is 1 where most
    of the meta-training values are equal, because nearly every median is then that value and
    absolute errors do not say what is liked more; it is 0 otherwise."""

    def __post_init__(self) -> None:
        if self.num_factors < 1:
            raise ValueError(f"num_factors is {self.num_factors}; it must be at least 1.")
        if self.num_levels is not None and self.num_levels < 2:
            raise ValueError(f"num_levels is {self.num_levels}; it must be at least 2.")
        if self.likelihood_weight is not None and self.likelihood_weight < 0:
            raise ValueError(
                f"likelihood_weight is {self.likelihood_weight}; it must be at least 0."
            )
        if not 0 <= self.hidden_share <= 1 or self.identity_penalty < 0:
            raise ValueError(
                f"hidden_share {self.hidden_share} must be between 0 and 1, identity_penalty "
                f"{self.identity_penalty} not negative."
            )

    def build(self, setting: Setting) -> "BayesianLinear":
        """Return the learner with these hyperparameters."""
        return BayesianLinear(
            self,
            setting.user_fields,
            setting.item_fields,
            setting.item_features,
            setting.objective,
            setting.value_range,
        )

    def start(self, built: Built, fresh: Params, inputs: StartInputs) -> Start:
        """Return a start from the Bayesian factorisation of the ratings, whichever factorisation is
        configured: its vectors are the learner's own. Training that continues an earlier model
        begins with that model's vectors, whose axes differ from those of a new factorisation."""
        if inputs.continues:
            return Start(fresh)
        source = inputs.source
        if built.objective == "rating" and inputs.has_factors:
            started = start_from_factorisation(
                built,
                fresh,
                inputs.rows,
                inputs.seed,
                source,
                keep=inputs.keep_source,
                factorised=inputs.factorised,
            )
            return Start(started)
        return Start(fresh if source is None else start_item_vectors(built, fresh, source))

    def rescaled(self, built: Built, params: Params, ratio: float, shift: float) -> Params:
        """Return parameters for values v' = ratio · v + shift that predict as these do of v."""
        return rescaled(params, ratio, shift)

    def with_levels(self, num_levels: int | None, top_share: float = 0.0) -> Self:
        """Return the same configuration with this number of levels and the weight that suits them,
        where they are not set."""
        weight = self.likelihood_weight
        if weight is None:
            weight = 1.0 if top_share > MOST_OF_VALUES else 0.0
        return dataclasses.replace(
            self, num_levels=self.num_levels or num_levels, likelihood_weight=weight
        )


@dataclasses.dataclass(frozen=True)
class VectorRows(Rows):
    """Rows whose items' vectors `prepare` has looked up."""

    vector_BRX: torch.Tensor

    @functools.cached_property
    def design_BRW(self) -> torch.Tensor:
        """What users' weights act on, made once for a catalogue that many users rank."""
        return _design(self.vector_BRX)

    def placed(self, places: Places) -> "VectorRows":
        """Return the rows in other places, with their vectors."""
        vector_BRX = self.vector_BRX[0][places.place_BR]
        return VectorRows(**vars(super().placed(places)), vector_BRX=vector_BRX)


class BayesianLinear:
    """Every user is a Gaussian over linear functions of item vectors."""

    def __init__(
        self,
        config: BayesianLinearConfig,
        user_fields: tuple[Field, ...],
        item_fields: tuple[Field, ...],
        item_features: Features,
        objective: Objective,
        value_range: tuple[float, float],
    ) -> None:
        """
        Args:
            value_range: lowest and highest value, in units of the model.
        """
        self.config = config
        self.user_fields = user_fields
        self.item_features = item_features
        self.is_graded = objective == "rating"
        self.vectors = ItemVectors(
            item_fields,
            config.num_factors,
            use_statistics=config.use_statistics,
            learn_content=config.learn_content or not self.is_graded,
        )
        lowest, highest = value_range if self.is_graded else (0.0, 1.0)
        levels = config.num_levels if self.is_graded else None
        self.median = MedianOfLevels(lowest, highest, levels or 2)
        self.predicts_median = config.estimate == "median" and levels is not None
        self.likelihood_weight = (config.likelihood_weight or 0.0) if self.is_graded else 0.0
        default: ObjectiveName = "absolute" if self.is_graded else "bce"
        self._outer_loss = loss_of(config.outer_objective or default)

    def init_params(self, generator: torch.Generator) -> Params:
        """Return fresh meta-parameters; `recmeta.metalearn.starts` has a better start."""
        width = self.config.num_factors + 1
        params = self.vectors.init_params(generator) | self.median.init_params()
        params[PRIOR_MEAN] = torch.zeros(width)
        params[PRIOR_LOG_PRECISION] = torch.zeros(width)
        params[PRIOR_LOG_PRECISION][0] = math.log(5.0)
        params[PRIOR_BY_SUPPORT] = torch.zeros((width + 2, width))
        params[LOG_NOISE] = torch.tensor(math.log(0.6))
        for field in self.user_fields:
            params[user_name(field)] = torch.zeros((field.num_rows, width))
        return params

    def meta_gradient(
        self, params: Params, batch: TaskBatch, generator: torch.Generator
    ) -> tuple[Params, Metrics]:
        """Return the exact gradient of the mean query loss with the likelihood and the penalty, and
        the query loss alone.

        On a CPU it is computed with one thread: the matrices of a batch are small, and the way in
        which several threads share a sum would decide its last bits.

        Args:
            generator: draws the users whose items are hidden, and items from their posteriors.
        """
        with one_thread(batch.query.mask_BR.device.type == "cpu"):
            return self._meta_gradient(params, batch, generator)

    def _meta_gradient(
        self, params: Params, batch: TaskBatch, generator: torch.Generator
    ) -> tuple[Params, Metrics]:
        frozen = self.vectors.frozen
        leaves = {n: p.detach().requires_grad_(n not in frozen) for n, p in params.items()}
        hidden_B = uniform_by(batch.name_B, 1, generator)[:, 0] < self.config.hidden_share
        support, query = batch.support.rows, batch.query
        with torch.enable_grad():
            known_BSX, query_BRX = self._look_up(leaves, (support, query), hidden_B, generator)
            state = self._posterior(leaves, batch.support, known_BSX)
            predicted = self._predict(leaves, state, query_BRX)
            loss = self._outer_loss(predicted.mean_BR, query.value_BR, query.mask_BR).mean()
            aim = loss
            if self.likelihood_weight > 0:
                assert predicted.spread_BR is not None, "ratings are predicted with a spread"
                surprise_B = gaussian(
                    predicted.ranked_by_BR, predicted.spread_BR, query.value_BR, query.mask_BR
                )
                aim = loss + self.likelihood_weight * surprise_B.mean()
            penalty = self.config.identity_penalty * self.vectors.identity_penalty(leaves)
        learned = [n for n, p in leaves.items() if p.requires_grad]
        slopes = torch.autograd.grad(aim + penalty, [leaves[n] for n in learned], allow_unused=True)
        # What is not learned has no gradient: the optimiser would keep moments of it otherwise.
        gradients = {
            name: torch.zeros_like(params[name]) if slope is None else slope
            for name, slope in zip(learned, slopes, strict=True)
        }
        return gradients, {"loss": float(loss.detach())}

    def adapt(self, params: Params, support: Support) -> UserState:
        """Return the users' posteriors: `weights` (B, W), the mean, and `whitener` (B, W, W), the
        inverse of the precision's Cholesky factor: the covariance is whitenerᵀ whitener."""
        (known_BSX,) = self._look_up(params, (support.rows,), None)
        return self._posterior(params, support, known_BSX)

    def prepare(self, params: Params, items: Rows) -> Rows:
        """Return the rows with their items' vectors."""
        (vector_BRX,) = self._look_up(params, (items,), None)
        return VectorRows(**vars(items), vector_BRX=vector_BRX)

    def predict(self, params: Params, state: UserState, items: Rows) -> Prediction:
        """Return predictions; those of ratings have the predictive standard deviation (that of the
        value, noise included)."""
        return self._predict(params, state, self._look_up(params, (items,), None)[0])

    def settle(self, params: Params, state: UserState) -> UserState:
        """Return the users as they are."""
        return state

    def ranked_by(self, params: Params, settled: UserState, items: Rows) -> torch.Tensor:
        """Return expected values without spreads or medians; for implicit feedback, logits, which
        need the spreads."""
        if not self.is_graded or not isinstance(items, VectorRows):
            return self.predict(params, settled, items).ranked_by_BR
        return items.vector_BRX[..., 0] + settled["weights"] @ items.design_BRW[0].T

    def ranked_without(self, params: Params, support: Support, items: Rows) -> torch.Tensor | None:
        """Return the exact expected values with all rows and without each row, or None for
        logits."""
        if not self.is_graded:
            return None
        rows = support.rows
        known_BSX, query_BRX = self._look_up(params, (rows, items), None)
        mask_BS1 = rows.mask_BR.to(known_BSX.dtype)[..., None]
        sum_BVX, count_BV1 = all_then_without(known_BSX * mask_BS1), all_then_without(mask_BS1)
        profile_B1W = prior_mean(params, self.user_fields, support.user, len(mask_BS1))[:, None]
        offset_BS, design_BSW, noise_BS = self._parts(params, known_BSX)
        weights_BVW = means_without(
            profile_B1W + self._by_support(params, sum_BVX, count_BV1),
            params[PRIOR_LOG_PRECISION].clamp(*LOG_PRECISION_RANGE).exp(),
            design_BSW,
            noise_BS,
            rows.value_BR - offset_BS,
            rows.mask_BR,
        )
        offset_BR, design_BRW, _ = self._parts(params, query_BRX)
        found_BVR = offset_BR[:, None] + weights_BVW @ design_BRW.mT.double()
        return found_BVR.to(known_BSX.dtype)

    def estimated(
        self, params: Params, expected_BR: torch.Tensor, spread_BR: torch.Tensor
    ) -> torch.Tensor:
        """Return the medians of ratings with this expectation and this spread, (B, R)."""
        return self.median.of(params, expected_BR, spread_BR)

    def linear_parts(
        self, params: Params, items: Rows
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what a user's weights act on: offsets (B, R), design (B, R, W) with
        value = offset + design · weights + noise, and the variance of that noise (B, R)."""
        (vector_BRX,) = self._look_up(params, (items,), None)
        return self._parts(params, vector_BRX)

    def support_gradient_norm(self, params: Params, support: Support) -> torch.Tensor:
        """Return (B,) the norm of the gradient of the support's negative log-likelihood with
        respect to a user's weights, at the prior mean."""
        (known_BSX,) = self._look_up(params, (support.rows,), None)
        mask_BS = support.rows.mask_BR.to(known_BSX.dtype)
        offset_BS, design_BSW, noise_BS = self._parts(params, known_BSX)
        prior_BW = self._prior_mean(params, support.user, known_BSX, torch.zeros_like(mask_BS))
        expected_BS = offset_BS + (design_BSW @ prior_BW[..., None])[..., 0]
        surprise_BS = (support.rows.value_BR - expected_BS) * mask_BS / noise_BS
        gradient_BW = (design_BSW * surprise_BS[..., None]).sum(1)
        return gradient_BW.square().sum(1).sqrt()

    def _look_up(
        self,
        params: Params,
        sides: tuple[Rows, ...],
        hidden_B: torch.Tensor | None,
        generator: torch.Generator | None = None,
    ) -> list[torch.Tensor]:
        """Return the vectors (B, R, X) of each side's items; each distinct one is made once."""
        if hidden_B is None and all(isinstance(side, VectorRows) for side in sides):
            return [side.vector_BRX for side in sides if isinstance(side, VectorRows)]
        item_U, places = distinct([side.item_BR for side in sides], self.item_features)
        vector_U2X = self.vectors.of_items(params, self.item_features, item_U, generator)
        found = []
        for side, place_BR in zip(sides, places, strict=True):
            if hidden_B is None:
                known_BRX = F.embedding(place_BR, vector_U2X[:, 0])
                found.append(self.vectors.with_statistics(params, known_BRX, side.statistics_BRD))
                continue
            row_BR = 2 * place_BR + hidden_B[:, None]
            vector_BRX = F.embedding(row_BR, vector_U2X.flatten(0, 1))
            past_BRD = side.statistics_BRD * ~hidden_B[:, None, None]
            found.append(self.vectors.with_statistics(params, vector_BRX, past_BRD))
        return found

    def _posterior(self, params: Params, support: Support, known_BSX: torch.Tensor) -> UserState:
        rows = support.rows
        mask_BS = rows.mask_BR.to(known_BSX.dtype)
        offset_BS, design_BSW, noise_BS = self._parts(params, known_BSX)
        prior_BW = self._prior_mean(params, support.user, known_BSX, mask_BS)
        precision_W = params[PRIOR_LOG_PRECISION].clamp(*LOG_PRECISION_RANGE).exp()
        weights_BW, whitener_BWW = posterior(
            prior_BW,
            precision_W,
            (offset_BS, design_BSW, noise_BS),
            rows.value_BR.to(mask_BS.dtype),
            mask_BS,
        )
        return {"weights": weights_BW, "whitener": whitener_BWW}

    def _prior_mean(
        self, params: Params, user: Features, known_BSX: torch.Tensor, mask_BS: torch.Tensor
    ) -> torch.Tensor:
        """Return (B, W) the prior mean of users, given their profiles and which items they
        rated."""
        sum_BX = (known_BSX * mask_BS[..., None]).sum(1)
        by_support_BW = self._by_support(params, sum_BX, mask_BS.sum(1, keepdim=True))
        return prior_mean(params, self.user_fields, user, len(mask_BS)) + by_support_BW

    def _by_support(
        self, params: Params, sum_X: torch.Tensor, count_1: torch.Tensor
    ) -> torch.Tensor:
        """Return (..., W) what the choice of rated items adds to the prior mean.

        Args:
            sum_X: (..., X) the sum of the items' vectors.
            count_1: (..., 1) the number of items.
        """
        shrunk_X = sum_X / (count_1 + SUPPORT_SHRINKAGE)
        return torch.cat([shrunk_X, count_1.log1p() / 4], -1) @ params[PRIOR_BY_SUPPORT]

    def _parts(
        self, params: Params, vector_BRX: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return offsets (B, R), the design that the weights act on (B, R, W), and the noise
        variance (B, R)."""
        offset_BR = vector_BRX[..., 0]
        design_BRW = _design(vector_BRX)
        log_noise_BR = params[LOG_NOISE] + vector_BRX[..., -1]
        return offset_BR, design_BRW, log_noise_BR.clamp(*LOG_NOISE_RANGE).exp()

    def _predict(self, params: Params, state: UserState, vector_BRX: torch.Tensor) -> Prediction:
        offset_BR, design_BRW, noise_BR = self._parts(params, vector_BRX)
        weights_BW, whitener_BWW = state["weights"], state["whitener"]
        if len(design_BRW) == 1:  # one large product instead of a thin one for each user
            mean_BR = offset_BR + weights_BW @ design_BRW[0].T
        else:
            mean_BR = offset_BR + (design_BRW @ weights_BW[..., None])[..., 0]
        whitened_BWR = whitener_BWW @ design_BRW.mT
        spread_BR = (whitened_BWR.square().sum(1) + noise_BR).sqrt()
        if not self.is_graded:
            return Prediction(self.median.margins(params, mean_BR, spread_BR)[..., 0])
        if not self.predicts_median:
            return Prediction(mean_BR, spread_BR)
        return Prediction(self.estimated(params, mean_BR, spread_BR), spread_BR, mean_BR)


def _design(vector_BRX: torch.Tensor) -> torch.Tensor:
    """Return the design (B, R, W): 1 and the items' factors."""
    return torch.cat([torch.ones_like(vector_BRX[..., :1]), vector_BRX[..., 1:-1]], -1)


LEARNER = BayesianLinearConfig
