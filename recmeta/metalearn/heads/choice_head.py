"""What a user takes next, by MAML: a softmax over the catalogue whose user vector adapts by
gradient steps.

    score_i(u) = π_i + u · b_i                         log-probability of taking item i, up to
                                                       a constant of the user
    L_S(u) = −Σ_{s in S} w_s log softmax(π + A u)_{i_s}        the loss of the known rows
    u_0 = m,  u_1 = m + Σ_v e_v − α_1 ∘ ∇ L_S(m) / √(n + ν),
    u_k = u_{k−1} − α_k ∘ ∇ L_S(u_{k−1}) / √(n + ν)            the inner loop, K steps

The meta-parameters (vectors a and b of every item, π, the start m and what each value v of a user's
profile adds to it, rates α of every step and number (Meta-SGD: Li et al., 2017), weights w of
recent and of liked rows) are trained so that the adapted user makes the *next* rows likely: the
outer loss is the softmax loss of the query, differentiated through the inner steps (Finn, Abbeel
and Levine, ICML 2017). The vectors that explain the known rows, a, differ from those that predict
the next ones, b: the inner loss is itself learned, so that items taken after an item may differ
from items taken beside it (Rendle, Freudenthaler and Schmidt-Thieme, WWW 2010, for the asymmetry).

Legend: B users, S support rows (padded), I items, N items of a sample, D numbers of a vector, K
steps, G lags, W values of a profile (padded), V values.
"""

import dataclasses
import functools
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F

from recmeta.metalearn.learner import Params
from recmeta.tasks.arrays import Float32Array, IntArray

PREDICTS, EXPLAINS = "predicts", "explains"
"""Names of vectors of items (I, D): b, which predict the next row, and a, which explain known
rows."""
POPULARITY = "popularity"
"""π (I,)."""
UNMET = "unmet"
"""π of a new item: the value after training of items without any user or, if there were none, the
value for half a user."""
START = "start"
"""m (D,)."""
BY_PROFILE = "by_profile"
"""e (V, D); the row of code 0, no value, is not read. Absent if no profile was known, and in a head
of an earlier version."""
LOG_RATES = "log_rates"
"""log α (K, D)."""
PRIOR_ROWS = "prior_rows"
"""ν, through a softplus."""
LAG = "lag"
"""(G,) log w of the newest row, of the row before it, and so on; the last is that of all older
rows."""
LIKING = "liking"
"""How much more a row of the best value counts than a row in the middle of the scale, as a
share."""
BY_ITEM = (PREDICTS, EXPLAINS, POPULARITY)
NUM_LAGS = 30
FIRST_SCALE = 10**0.5
"""The initial scale of both vectors: a factorisation's output for a taken item lies between 0 and
1, but log-odds have a wider range."""
AT_ONCE = 2**22
"""The most probabilities of items, or numbers in rows' vectors, of all users who adapt at once."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ChoiceHead:
    """The meta-parameters, with which users adapt. Item numbers are those of the catalogue."""

    params: Params
    in_order: bool
    """Whether rows have an order, so that the newest are known."""
    most_rows: int
    """The most rows of a user in training; see `row_weights`."""
    epochs: int = 0
    """The number of training passes."""

    @classmethod
    def init(
        cls,
        count_I: IntArray,
        factors_ID: torch.Tensor,
        regularisation: float,
        num_steps: int,
        *,
        most_rows: int,
        in_order: bool,
        num_profile_values: int = 1,
    ) -> Self:
        """Return the start of meta-training: a weighted factorisation X, into which a new user is
        folded by (XᵀX + λ)⁻¹ Σ_s x_s. This is the first step from 0 in the metric of the items that
        users did not take. So a is X (XᵀX + λ)⁻¹, and b is X.

        Args:
            count_I: how often each item was taken.
            factors_ID: X.
            regularisation: λ.
            num_profile_values: V.
        """
        factors_ID = factors_ID.float()
        num_factors = factors_ID.shape[1]
        gram_DD = factors_ID.T @ factors_ID + regularisation * torch.eye(num_factors)
        explains_ID = torch.linalg.solve(gram_DD, factors_ID.T).T
        lengths = factors_ID.norm(dim=1).mean(), explains_ID.norm(dim=1).mean()
        balance = (lengths[1] / lengths[0].clamp(min=1e-12)).sqrt().clamp(min=1e-6)
        count = torch.from_numpy(np.array(count_I, np.float32)) + 0.5
        profiles = {}
        if num_profile_values > 1:
            profiles[BY_PROFILE] = torch.zeros((num_profile_values, num_factors))
        return cls(
            params={
                PREDICTS: factors_ID * balance * FIRST_SCALE,
                EXPLAINS: (explains_ID / balance * FIRST_SCALE).contiguous(),
                POPULARITY: (count / count.sum()).log(),
                UNMET: (0.5 / count.sum()).log(),
                START: torch.zeros(num_factors),
                **profiles,
                LOG_RATES: torch.zeros((num_steps, num_factors)),
                PRIOR_ROWS: torch.tensor(1.0),
                LAG: torch.zeros(NUM_LAGS if in_order else 1),
                LIKING: torch.tensor(0.0),
            },
            in_order=in_order,
            most_rows=most_rows,
        )

    @property
    def num_items(self) -> int:
        """I"""
        return len(self.params[POPULARITY])

    def trained(self, params: Params, count_I: IntArray, epochs: int) -> "ChoiceHead":
        """Return the head with these meta-parameters, trained for a number of passes.

        Args:
            count_I: how often training users took each item.
        """
        params = dict(params)
        is_unmet_I = torch.from_numpy(np.asarray(count_I) == 0).to(params[POPULARITY].device)
        if bool(is_unmet_I.any()):
            params[UNMET] = params[POPULARITY][is_unmet_I].mean()
        return dataclasses.replace(self, params=params, epochs=epochs)

    def on(self, number_I: IntArray, num_items: int) -> "ChoiceHead":
        """Return the head over another catalogue, in which new items are like items without any
        user.

        Args:
            number_I: each item's number in that catalogue, or -1 where it has none.
            num_items: the number of items of that catalogue.
        """
        kept = np.flatnonzero(number_I >= 0)
        to, source = torch.from_numpy(number_I[kept]), torch.from_numpy(kept)
        params = dict(self.params)
        for name in BY_ITEM:
            table = self.params[name]
            new = table.new_zeros((num_items, *table.shape[1:]))
            if name == POPULARITY:
                new += self.params[UNMET]
            new[to.to(table.device)] = table[source.to(table.device)]
            params[name] = new
        return dataclasses.replace(self, params=params)

    def to(self, device: torch.device) -> "ChoiceHead":
        """Return the head on a device."""
        params = {name: p.to(device) for name, p in self.params.items()}
        return dataclasses.replace(self, params=params)

    # Users ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def adapt(
        self,
        item_BS: torch.Tensor,
        liking_BS: torch.Tensor,
        mask_BS: torch.Tensor,
        profile_BW: torch.Tensor,
    ) -> torch.Tensor:
        """Return (B, D) users after the inner steps.

        Args:
            item_BS: int64; padding may hold any number.
            liking_BS: -1 for the lowest value of the scale, 1 for the highest, 0 without a value.
            mask_BS: false where padded.
            profile_BW: int64 codes of the users' profiles; 0 where there is no value.
        """
        params = self.params
        numbers = max(self.num_items, params[START].numel() * item_BS.shape[1], 1)
        at_once = max(1, AT_ONCE // numbers)
        parts = [
            adapted(
                params,
                params[EXPLAINS][item_BS[first : first + at_once]],
                liking_BS[first : first + at_once],
                mask_BS[first : first + at_once],
                profile_BW[first : first + at_once],
                params[EXPLAINS],
                params[POPULARITY],
                most_rows=self.most_rows,
                expected_D=self.expected_D,
            )
            for first in range(0, max(len(item_BS), 1), at_once)
        ]
        return torch.cat(parts)

    @torch.no_grad()
    def starts(self, profile_BW: torch.Tensor) -> torch.Tensor:
        """Return (B, D) users before any inner step.

        Args:
            profile_BW: as in `adapt`.
        """
        return started(self.params, profile_BW)

    @torch.no_grad()
    def scores(self, user_BD: torch.Tensor) -> torch.Tensor:
        """Return (B, I) the log-probability of every item to be taken next, up to a constant."""
        return torch.addmm(self.params[POPULARITY], user_BD, self.params[PREDICTS].T)

    @torch.no_grad()
    def effects(
        self,
        item_BS: torch.Tensor,
        liking_BS: torch.Tensor,
        mask_BS: torch.Tensor,
        profile_BW: torch.Tensor,
        target_Bk: torch.Tensor,
    ) -> torch.Tensor:
        """Return (B, S, k) the effect of each row on the scores of some items: the scores with all
        rows minus those of the user adapted without that row.

        Args:
            target_Bk: int64 items of each user.
        """
        num_users, num_rows = mask_BS.shape
        at_once = max(1, AT_ONCE // max(num_rows**2, 1))
        sides = (item_BS, liking_BS, mask_BS, profile_BW)
        parts = [
            self._changes(*(t[first : first + at_once] for t in sides))
            for first in range(0, max(num_users, 1), at_once)
        ]
        return torch.cat(parts) @ self.params[PREDICTS][target_Bk].mT

    def _changes(
        self,
        item_BS: torch.Tensor,
        liking_BS: torch.Tensor,
        mask_BS: torch.Tensor,
        profile_BW: torch.Tensor,
    ) -> torch.Tensor:
        """Return (B, S, D) the users' vectors minus their vectors when adapted without each of
        their rows."""
        num_users, num_rows = mask_BS.shape
        itself_SS = torch.eye(num_rows, dtype=torch.bool, device=mask_BS.device)
        without_BSS = mask_BS[:, None] & ~itself_SS

        def each(t_BX: torch.Tensor) -> torch.Tensor:
            return t_BX.repeat_interleave(num_rows, 0)

        found_ND = self.adapt(
            torch.cat([item_BS, each(item_BS)]),
            torch.cat([liking_BS, each(liking_BS)]),
            torch.cat([mask_BS, without_BSS.flatten(0, 1)]),
            torch.cat([profile_BW, each(profile_BW)]),
        )
        user_BD, without_ND = found_ND[:num_users], found_ND[num_users:]
        change_BSD = user_BD[:, None] - without_ND.view(num_users, num_rows, -1)
        return change_BSD * mask_BS[..., None]

    @functools.cached_property
    def expected_D(self) -> torch.Tensor:
        """The mean of a over the items, weighted by their probabilities before any user adapts."""
        params = self.params
        return expected_at_start(params, params[EXPLAINS], params[POPULARITY])

    # Saving --------------------------------------------------------------------------------------

    def about(self) -> dict[str, Any]:
        """Return everything but the tensors, JSON-ready."""
        return {"in_order": self.in_order, "most_rows": self.most_rows, "epochs": self.epochs}


def likings(value: Float32Array, value_range: tuple[float, float] | None) -> Float32Array:
    """Return how much each row was liked: -1 for the lowest value of the scale, 1 for the highest,
    and 0 for every row where values have no range."""
    if value_range is None or value_range[0] == value_range[1]:
        return np.zeros(value.shape, np.float32)
    low, high = value_range
    found: Float32Array = ((2 * value - low - high) / (high - low)).astype(np.float32)
    return found


def adapted(
    params: Params,
    support_BSD: torch.Tensor,
    liking_BS: torch.Tensor,
    mask_BS: torch.Tensor,
    profile_BW: torch.Tensor,
    explains_ND: torch.Tensor,
    log_base_N: torch.Tensor,
    *,
    most_rows: int,
    expected_D: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return (B, D) users after the inner steps. Gradients that are being recorded go through the
    steps.

    Args:
        support_BSD: a of the users' rows.
        profile_BW: codes of their profiles.
        explains_ND: a of all items, or of a sample of them.
        log_base_N: π of these items, plus the logarithm of the number of items that each stands
            for.
        most_rows: see `row_weights`.
        expected_D: the probability-weighted mean of a at m, if it is at hand. A profile joins with
            the first step, so that this is the same for all users.
    """
    num_rows_B1 = mask_BS.sum(1, keepdim=True).clamp(max=most_rows)
    weight_BS = row_weights(params, liking_BS, mask_BS, most_rows)
    sum_BD = (weight_BS[:, None] @ support_BSD)[:, 0]
    total_B1 = weight_BS.sum(1, keepdim=True)
    user_BD = started(params, profile_BW)
    if expected_D is None:
        expected_D = expected_at_start(params, explains_ND, log_base_N)
    confidence_B1 = (num_rows_B1 + F.softplus(params[PRIOR_ROWS])).rsqrt()
    for step, rate_D in enumerate(params[LOG_RATES].exp()):
        if step == 0:
            expected_BD = expected_D.expand_as(user_BD)
        else:
            expected_BD = _expected(user_BD, explains_ND, log_base_N)
        user_BD = user_BD + rate_D * confidence_B1 * (sum_BD - total_B1 * expected_BD)
    return user_BD


def started(params: Params, profile_BW: torch.Tensor) -> torch.Tensor:
    """Return (B, D) users without any known row, given their profiles."""
    start_BD = params[START].expand(len(profile_BW), -1)
    if BY_PROFILE not in params or not profile_BW.shape[1]:
        return start_BD
    is_known_BW1 = (profile_BW > 0)[..., None]
    return start_BD + (params[BY_PROFILE][profile_BW] * is_known_BW1).sum(1)


def row_weights(
    params: Params, liking_BS: torch.Tensor, mask_BS: torch.Tensor, most_rows: int
) -> torch.Tensor:
    """Return (B, S) w: the weight of each row in the inner loss.

    Args:
        most_rows: the number of newest rows that count for users with more rows. If rows have no
            order, all of them count, together as much as this many rows.
    """
    lag = params[LAG]
    num_rows_B1 = mask_BS.sum(1, keepdim=True)
    age_BS = num_rows_B1 - mask_BS.cumsum(1)  # the number of newer rows
    if len(lag) > 1:
        mask_BS = mask_BS & (age_BS < most_rows)
        share_B1 = torch.ones_like(num_rows_B1)
    else:
        share_B1 = (most_rows / num_rows_B1.clamp(min=1)).clamp(max=1)
    by_age_BS = lag[age_BS.clamp(0, len(lag) - 1)].exp()
    return share_B1 * by_age_BS * (1 + params[LIKING] * liking_BS) * mask_BS


def expected_at_start(
    params: Params, explains_ND: torch.Tensor, log_base_N: torch.Tensor
) -> torch.Tensor:
    """Return (D,) the mean of a under the probabilities of the items at m."""
    return _expected(params[START][None], explains_ND, log_base_N)[0]


def _expected(
    user_BD: torch.Tensor, explains_ND: torch.Tensor, log_base_N: torch.Tensor
) -> torch.Tensor:
    """Return (B, D) the mean of a under the probabilities that users give the items."""
    share_BN = torch.addmm(log_base_N, user_BD, explains_ND.T).softmax(1)
    return share_BN @ explains_ND
