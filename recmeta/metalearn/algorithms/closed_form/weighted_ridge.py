"""Weighted ridge regression on item vectors: implicit feedback in closed form.

    score_ui = w_u · x_i
    w_u = argmin  Σ_{i in support} (1 + c) (1 - score_ui)² + Σ_{other i} score_ui² + |w|²_Λ

is how a new user is folded into weighted matrix factorisation (Hu, Koren, Volinsky, ICDM 2008). The
contribution of the items that a user did *not* take is the same for every user: the Gram matrix
Σ x_i x_iᵀ, which is the prior's precision. The prior's mean depends on the profile. Meta-training
begins where such a factorisation ends, and differentiates through the closed form (R2-D2:
Bertinetto et al., ICLR 2019) to learn vectors, confidence c and prior by the factorisation's own
loss on the query, over the whole catalogue. During training, a user's items are represented by
vectors that were fitted without this user's rows (`start_from_factorisation`): otherwise the
learner would learn to trust vectors that have seen the answer.

Legend: B users, S support rows (padded), R rows, N items, F factors, K folds of training users.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import ClassVar

import torch
import torch.nn.functional as F

from recmeta.errors import UserError
from recmeta.metalearn.factors.content_prior import embed
from recmeta.metalearn.learner import Metrics, Params, Prediction, UserState
from recmeta.metalearn.learner_config import LearnerConfig, Setting
from recmeta.metalearn.networks.item_vectors import content_name
from recmeta.metalearn.networks.user_prior import (
    PRIOR_LOG_PRECISION,
    PRIOR_MEAN,
    prior_mean,
    user_name,
)
from recmeta.metalearn.numerics.sparse_gradients import gradients_by, is_large
from recmeta.metalearn.numerics.threads import in_turn, one_thread
from recmeta.metalearn.starts.beginning import Built, Start, StartInputs
from recmeta.metalearn.starts.content_transfer import start_from_content
from recmeta.metalearn.starts.weighted_ridge_start import (
    FACTORS,
    IDENTITY,
    INTERCEPT,
    LOG_CONFIDENCE,
    start_from_factorisation,
)
from recmeta.metalearn.tensors.batch import Rows, Support, TaskBatch
from recmeta.metalearn.tensors.encoding import ITEM_ID_FIELD, Features, Field
from recmeta.tasks.task_set import Objective

LOG_SCALE = "scale.log_tenth"
"""A tenth of the logarithm of the factor that scores are multiplied by: predictions of what a user
will take are less certain than the factorisation's fit to what it has seen. It is a tenth so that
the learning rate that suits the vectors moves it, too."""
LOG_CONFIDENCE_RANGE = (-6.0, 6.0)
LOG_PRECISION_RANGE = (-4.0, 12.0)
ROWS_AT_ONCE = 2**16
"""The most places of users' rows, padding included, whose vectors are in memory at once."""
GRAM = "derived.gram"
"""(F, F) the sum over items of the outer product of their factors with themselves. It is derived
from the parameters, not learned."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightedRidgeConfig(LearnerConfig):
    """The regression, and how it is learned."""

    objectives: ClassVar[tuple[Objective, ...]] = ("implicit",)

    num_factors: int = 32
    """The length of an item's vector. A factorisation from which meta-training starts brings its
    own length, chosen on the development users."""
    query_confidence: float = 4.0
    """The weight of a query item's squared error relative to that of an item that was not taken."""
    catalogue_sample: int = 20_000
    """The number of items in the meta-training loss; a larger catalogue is sampled."""

    def __post_init__(self) -> None:
        if self.num_factors < 1 or self.catalogue_sample < 1 or not self.query_confidence > 0:
            raise ValueError(
                f"num_factors {self.num_factors}, catalogue_sample {self.catalogue_sample} and "
                f"query_confidence {self.query_confidence} must be positive."
            )

    def build(self, setting: Setting) -> "WeightedRidge":
        """Return the learner with these hyperparameters.

        Raises:
            UserError: for ratings.
        """
        if setting.is_graded:
            raise UserError(
                "the learner is 'weighted-ridge', which learns from implicit feedback alone: "
                "choose 'bayesian-linear' for ratings."
            )
        return WeightedRidge(self, setting.user_fields, setting.item_fields, setting.item_features)

    def start(self, built: Built, fresh: Params, inputs: StartInputs) -> Start:
        """Return a start from the weighted factorisation, whichever factorisation is configured,
        and from the same factorisation fitted without the users of each fold. Training that
        continues an earlier model begins with that model's vectors, whose axes differ from those of
        a new factorisation."""
        start = Start(fresh)
        if inputs.has_factors and not inputs.continues:
            found = inputs.tuned_weighted_factors()
            start = start_from_factorisation(
                built, fresh, inputs.rows, found.item_IF, found.config, inputs.seed
            )
        if inputs.source is None:
            return start
        started = start_from_content(built, start.params, inputs.source)
        return dataclasses.replace(start, params=started)


@dataclasses.dataclass(frozen=True)
class FactorRows(Rows):
    """Rows whose items' vectors `prepare` has looked up."""

    vector_BRF: torch.Tensor


class WeightedRidge:
    """Every user is a ridge regression on the vectors of what they took."""

    def __init__(
        self,
        config: WeightedRidgeConfig,
        user_fields: tuple[Field, ...],
        item_fields: tuple[Field, ...],
        item_features: Features,
    ) -> None:
        self.config = config
        self.user_fields = user_fields
        self.content_fields = tuple(f for f in item_fields if f.name != ITEM_ID_FIELD)
        self.num_ids = next((f.num_codes for f in item_fields if f.name == ITEM_ID_FIELD), 0)
        self.item_features = item_features

    def init_params(self, generator: torch.Generator) -> Params:
        """Return fresh meta-parameters; `recmeta.metalearn.starts` has a better start."""
        width = self.config.num_factors

        def noise(rows: int) -> torch.Tensor:
            return 0.1 * torch.randn((rows, width), generator=generator)

        params = {content_name(f): noise(f.num_rows) for f in self.content_fields}
        params[INTERCEPT] = torch.zeros(width)
        if self.num_ids:
            params[FACTORS] = noise(self.num_ids)
            params[IDENTITY] = torch.zeros((self.num_ids, width))
        params[LOG_SCALE] = torch.tensor(0.0)
        params[PRIOR_MEAN] = torch.zeros(width)
        params[PRIOR_LOG_PRECISION] = torch.zeros(width)
        params[LOG_CONFIDENCE] = torch.tensor(math.log(self.config.query_confidence))
        for field in self.user_fields:
            params[user_name(field)] = torch.zeros((field.num_rows, width))
        return params

    def meta_gradient(
        self, params: Params, batch: TaskBatch, generator: torch.Generator
    ) -> tuple[Params, Metrics]:
        """Return the exact gradient of the mean query loss, and the loss; where the catalogue is
        sampled, both are of the sampled estimate of that loss.

        On a CPU each fold's share is computed with one thread, and the shares are added in order,
        so that the result has the same bits for any number of threads.

        Args:
            generator: draws the sample of the catalogue.
        """
        leaves = {n: p.detach().requires_grad_(n != FACTORS) for n, p in params.items()}
        size = min(self._num_candidates, self.config.catalogue_sample)
        sample_N = torch.randperm(self._num_candidates, generator=generator)[:size]
        sample_N = sample_N.to(batch.query.mask_BR.device)
        learned = {n: p for n, p in leaves.items() if n != FACTORS}
        folds = [
            (users_b, factors_IF)
            for fold_b, factors_IF in self._folds(leaves, batch)
            for users_b in _of_like_length(batch.support.rows, fold_b)
        ]
        device = batch.query.mask_BR.device

        def of_fold(
            fold: tuple[torch.Tensor, torch.Tensor | None],
        ) -> tuple[torch.Tensor, Params]:
            with torch.enable_grad():
                loss = self._loss(leaves, fold[0], batch, fold[1], sample_N) / len(batch)
            return loss.detach(), gradients_by(loss, learned)

        total = torch.zeros((), dtype=torch.float64, device=device)
        gradients: Params = {}
        with one_thread(device.type == "cpu" and len(folds) == 1):
            for loss, found in in_turn(of_fold, folds, device):
                total += loss
                gradients = {n: gradients[n] + g for n, g in found.items()} if gradients else found
        if FACTORS in params:
            gradients[FACTORS] = torch.zeros_like(params[FACTORS])
        return gradients, {"loss": float(total)}

    def adapt(self, params: Params, support: Support) -> UserState:
        """Return each user's `weights` (B, F)."""
        gram_FF = params[GRAM] if GRAM in params else self._gram_of_all(params)
        num_users = len(support.rows.mask_BR)
        everybody_B = torch.arange(num_users, device=gram_FF.device)
        weights_BF = gram_FF.new_empty((num_users, len(gram_FF)))
        for users_b in _of_like_length(support.rows, everybody_B):
            some = _supports_of(support, users_b)
            known_bSF = self._vectors(params, some.rows.item_BR, params.get(FACTORS))
            weights_BF[users_b] = self._weights(params, some, known_bSF, gram_FF)
        return {"weights": weights_BF}

    def derived(self, params: Params) -> Params:
        """Return the Gram matrix of all items."""
        return {GRAM: self._gram_of_all(params)}

    def prepare(self, params: Params, items: Rows) -> Rows:
        """Return the rows with their items' vectors."""
        vector_BRF = self._vectors(params, items.item_BR, params.get(FACTORS))
        return FactorRows(**vars(items), vector_BRF=vector_BRF)

    def predict(self, params: Params, state: UserState, items: Rows) -> Prediction:
        """Return scores: about 1 for items that a user takes, about 0 for most others."""
        if isinstance(items, FactorRows):
            return Prediction(_scores(params, state["weights"], items.vector_BRF))
        vector_BRF = self._vectors(params, items.item_BR, params.get(FACTORS))
        return Prediction(_scores(params, state["weights"], vector_BRF))

    def _folds(
        self, params: Params, batch: TaskBatch
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        """Yield the users of each fold of the batch, and the items' factors fitted without them."""
        everybody_B = torch.arange(len(batch), device=batch.query.mask_BR.device)
        if batch.left_out_KIF is None or batch.place_B is None:
            yield everybody_B, params.get(FACTORS)
            return
        fold_B = batch.place_B % len(batch.left_out_KIF)
        for fold, left_out_IF in enumerate(batch.left_out_KIF):
            users_b = everybody_B[fold_B == fold]
            if len(users_b):
                yield users_b, left_out_IF.to(params[FACTORS])

    def _loss(
        self,
        params: Params,
        users_b: torch.Tensor,
        batch: TaskBatch,
        factors_IF: torch.Tensor | None,
        sample_N: torch.Tensor,
    ) -> torch.Tensor:
        """Return the sum over some users of the factorisation's loss, each user's averaged over
        their query items. The target is 1 for the query's items and 0 for all others; the support's
        do not count."""
        support = _supports_of(batch.support, users_b)
        query = _of_users(batch.query, users_b)
        gram_FF = self._gram(params, sample_N, factors_IF)
        known_BSF = self._vectors(params, support.rows.item_BR, factors_IF)
        weights_BF = self._weights(params, support, known_BSF, gram_FF)
        query_BR = _scores(params, weights_BF, self._vectors(params, query.item_BR, factors_IF))
        catalogue_B = scale_of(params).square() * ((weights_BF @ gram_FF) * weights_BF).sum(1)
        met_BS = support.rows.mask_BR & (support.rows.value_BR > 0)
        known_B = (_scores(params, weights_BF, known_BSF).square() * met_BS).sum(1)
        taken_BR = query.mask_BR & (query.value_BR > 0)
        excess_BR = self.config.query_confidence * (1 - query_BR).square() - query_BR.square()
        total_B = catalogue_B - known_B + (excess_BR * taken_BR).sum(1)
        num_taken_B = taken_BR.sum(1)
        return (total_B * (num_taken_B > 0) / num_taken_B.clamp(min=1)).sum()

    @property
    def _num_candidates(self) -> int:
        """The number of items that users could have taken: those with ids of their own, or the
        catalogue."""
        if self.num_ids:
            return self.num_ids - 1
        return len(next(iter(self.item_features.values())))

    def _gram(
        self, params: Params, sample_N: torch.Tensor, factors_IF: torch.Tensor | None
    ) -> torch.Tensor:
        """Return (F, F) the sum over items, estimated from a sample of them, of the outer product
        of their factors with themselves."""
        if factors_IF is None:
            vector_NF = self._vectors(params, sample_N, None)
        else:
            vector_NF = self._own(params, sample_N + 1, factors_IF)
        share = len(sample_N) / self._num_candidates
        return vector_NF.T @ vector_NF / share

    def _gram_of_all(self, params: Params) -> torch.Tensor:
        """Return the Gram matrix of all items."""
        item_N = torch.arange(self._num_candidates, device=params[INTERCEPT].device)
        return self._gram(params, item_N, params.get(FACTORS))

    def _own(self, params: Params, code_N: torch.Tensor, factors_IF: torch.Tensor) -> torch.Tensor:
        """Return vectors (N, F) of known items by their codes."""
        table = params[IDENTITY]
        learned_NF = F.embedding(code_N, table, sparse=is_large(table))
        return learned_NF + F.embedding(code_N, factors_IF)

    def _vectors(
        self, params: Params, item: torch.Tensor, factors_IF: torch.Tensor | None
    ) -> torch.Tensor:
        """Return vectors (..., F) of rows (...) of the catalogue; known items have these
        factors."""
        flat_N = item.reshape(-1)
        encoded = {name: t[flat_N] for name, t in self.item_features.items()}
        new_NF = params[INTERCEPT].expand(len(flat_N), -1)
        for field in self.content_fields:
            new_NF = new_NF + embed(params[content_name(field)], field, encoded[field.name])
        vector_NF = new_NF
        if factors_IF is not None:
            code_N = encoded[ITEM_ID_FIELD]
            own_NF = self._own(params, code_N, factors_IF)
            vector_NF = torch.where((code_N > 0)[:, None], own_NF, new_NF)
        return vector_NF.view(*item.shape, vector_NF.shape[1])

    def _weights(
        self, params: Params, support: Support, known_BSF: torch.Tensor, gram_FF: torch.Tensor
    ) -> torch.Tensor:
        """Return (B, F) the solution of the weighted ridge regression on what users took."""
        rows = support.rows
        is_met_BS = rows.mask_BR & (rows.value_BR > 0)
        confidence = params[LOG_CONFIDENCE].clamp(*LOG_CONFIDENCE_RANGE).exp()
        # The more of a user's own choices are known, the less the prior counts.
        prior_BF = prior_mean(params, self.user_fields, support.user, len(is_met_BS)) / (
            1 + is_met_BS.sum(1, keepdim=True)
        )
        weighted_BSF = known_BSF * (confidence * is_met_BS)[..., None]
        ridge_F = params[PRIOR_LOG_PRECISION].clamp(*LOG_PRECISION_RANGE).exp()
        prior_FF = gram_FF + ridge_F.diag()
        factor_BFF = torch.linalg.cholesky(weighted_BSF.mT @ known_BSF + prior_FF)
        expected_BS = (known_BSF @ prior_BF[..., None])[..., 0]
        # A support row is also one of `all items`, whose target is 0: 1 / c makes up for that.
        target = 1 + 1 / confidence
        moment_BF1 = weighted_BSF.mT @ (target - expected_BS)[..., None]
        return prior_BF + torch.cholesky_solve(moment_BF1, factor_BFF)[..., 0]


def scale_of(params: Params) -> torch.Tensor:
    """Return what the product of a user's weights and an item's vector is multiplied with."""
    return (10 * params[LOG_SCALE]).exp()


def _scores(params: Params, weights_BF: torch.Tensor, vector_BRF: torch.Tensor) -> torch.Tensor:
    if len(vector_BRF) == 1:  # one large product instead of a thin one for each user
        return scale_of(params) * (weights_BF @ vector_BRF[0].T)
    return scale_of(params) * (vector_BRF @ weights_BF[..., None])[..., 0]


def _of_like_length(rows: Rows, users_b: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the users in groups, the shortest rows first, whose rows have at most `ROWS_AT_ONCE`
    places when padded to the group's longest: a few users with very many rows neither pad those of
    all others nor take memory for them."""
    length_b = _last(rows.mask_BR[users_b])
    order_b = torch.argsort(length_b, stable=True)
    sorted_lengths = length_b[order_b].tolist()
    first = 0
    for last in range(1, len(sorted_lengths) + 1):
        is_end = last == len(sorted_lengths)
        if is_end or (last + 1 - first) * sorted_lengths[last] > ROWS_AT_ONCE:
            yield users_b[order_b[first:last]]
            first = last


def _supports_of(support: Support, users_b: torch.Tensor) -> Support:
    user = {name: t[users_b] for name, t in support.user.items()}
    return Support(user, _of_users(support.rows, users_b))


def _of_users(rows: Rows, users_b: torch.Tensor) -> Rows:
    """Return the rows of some users, padded to the longest of theirs."""
    longest = int(_last(rows.mask_BR[users_b]).max())
    return Rows(
        rows.item_BR[users_b, :longest],
        rows.statistics_BRD[users_b, :longest],
        rows.value_BR[users_b, :longest],
        rows.mask_BR[users_b, :longest],
    )


def _last(mask_BR: torch.Tensor) -> torch.Tensor:
    """Return (B,) the number of places up to the last row of each user."""
    place_R = torch.arange(1, mask_BR.shape[1] + 1, device=mask_BR.device)
    return (mask_BR * place_R).amax(1) if mask_BR.shape[1] else mask_BR.sum(1)


LEARNER = WeightedRidgeConfig
