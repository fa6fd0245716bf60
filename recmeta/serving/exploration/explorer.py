"""Lists that explore, for users with few known interactions.

With Thompson sampling an exploring order is that of the list's own scores after one draw of the
user's weights from the posterior; how far a draw moves an item is scaled to the model's calibrated
uncertainty, where it has one.

Legend: B users, C or m candidates, k places, D drawn lists, W weights of a user.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from recmeta.errors import UserError
from recmeta.metalearn.heads.list_head import LEARNER_WEIGHT
from recmeta.metalearn.learner import HasPosterior
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.exploration.config import ExploreConfig
from recmeta.serving.exploration.drawn_lists import (
    drawn_probabilities,
    plain_choices,
    put_together,
    uniform_probabilities,
)
from recmeta.serving.ranking import AdaptedUsers
from recmeta.tasks.arrays import BoolArray, Float32Array, Float64Array, IntArray
from recmeta.tasks.task_set import Ragged, Tasks

MOST_KEPT = 64
"""Tables of exact probabilities, each of a number of candidates and of places."""


@dataclasses.dataclass(frozen=True)
class ExploredLists:
    """Lists of B users as places among their candidates."""

    place_Bk: IntArray
    """The candidate at each place; -1 past the end."""
    propensity_Bk: Float64Array
    """The probability of this candidate at this place; NaN past the end."""
    is_explored_Bk: BoolArray
    """Whether the place explored and got another item than without exploring."""


class Explorer:
    """Makes lists that explore, by one model and configuration."""

    def __init__(self, scorer: Scorer, config: ExploreConfig) -> None:
        """
        Raises:
            UserError: if the learner has no posterior to draw from.
        """
        self.scorer = scorer
        self.config = config
        if config.by == "thompson" and not isinstance(scorer.model.learner, HasPosterior):
            raise UserError(
                f"explore.by is 'thompson', and {scorer.model.config.learner_name} has no "
                "posterior to draw from: set it to 'uniform', or train bayesian-linear, or maml on "
                "it."
            )
        # Requests choose how many candidates there are, so that not all of these can be kept.
        self._uniform = functools.lru_cache(MOST_KEPT)(uniform_probabilities)

    def lists(
        self,
        users: AdaptedUsers,
        tasks: Tasks,
        candidate_Bm: IntArray,
        worth_Bm: Float32Array,
        deviation_Bm: Float32Array,
        length: int,
        names: Sequence[str],
    ) -> ExploredLists:
        """Return lists of users.

        Args:
            tasks: what the users were adapted to.
            candidate_Bm: items, the best first; -1 past the end.
            worth_Bm: what lists are ordered by.
            deviation_Bm: calibrated standard deviations of values; NaN where there are none.
            length: k.
            names: of the users.
        """
        num_users = len(candidate_Bm)
        length = min(length, candidate_Bm.shape[1])
        place_Bk = np.tile(np.arange(length), (num_users, 1))
        place_Bk[candidate_Bm[:, :length] < 0] = -1
        propensity_Bk = np.where(place_Bk >= 0, 1.0, np.nan)
        is_explored_Bk = np.zeros(place_Bk.shape, np.bool_)
        explores_B = tasks.support.lengths <= self.config.most_interactions
        if self.config.share == 0 or not explores_B.any():
            return ExploredLists(place_Bk, propensity_Bk, is_explored_Bk)
        move_BWm = None
        if self.config.by == "thompson":
            move_BWm = self._moves(users, candidate_Bm, deviation_Bm)
        for user in np.flatnonzero(explores_B).tolist():
            count = int((candidate_Bm[user] >= 0).sum())
            if count < 2:
                continue
            generator = self._generator(names[user], tasks.support.take(np.array([user])))
            most = min(length, count)
            if move_BWm is None:
                shown_k, chance_k = self._uniform_list(count, most, generator)
            else:
                worth_m = worth_Bm[user, :count].astype(np.float64)
                move_Wm = move_BWm[user, :, :count]
                shown_k, chance_k = self._thompson_list(worth_m, move_Wm, most, generator)
            place_Bk[user, :most] = shown_k
            propensity_Bk[user, :most] = chance_k
            is_explored_Bk[user, :most] = shown_k != plain_choices(shown_k)
        return ExploredLists(place_Bk, propensity_Bk, is_explored_Bk)

    def _uniform_list(
        self, count: int, length: int, generator: np.random.Generator
    ) -> tuple[IntArray, Float64Array]:
        """Return a list and its exact propensities."""
        order_1C = generator.permutation(count)[None]
        explores_1k = generator.random((1, count))[:, :length] < self.config.share
        shown_k = put_together(order_1C, explores_1k)[0]
        chance_Ck = self._uniform(count, length, self.config.share)
        return shown_k, chance_Ck[shown_k, np.arange(length)]

    def _thompson_list(
        self,
        worth_m: Float64Array,
        move_Wm: Float64Array,
        length: int,
        generator: np.random.Generator,
    ) -> tuple[IntArray, Float64Array]:
        """Return a list and its propensities, estimated from the configured number of further
        lists."""
        num_lists = 1 + self.config.draws
        drawn_Dm = worth_m + generator.standard_normal((num_lists, len(move_Wm))) @ move_Wm
        # For every place that a list could have: how it begins does not depend on its length.
        chance_Dm = generator.random((num_lists, len(worth_m)))
        explores_Dk = chance_Dm[:, :length] < self.config.share
        best_Dk = np.argpartition(-drawn_Dm, length - 1, axis=1)[:, :length]
        order_Dk = np.argsort(-np.take_along_axis(drawn_Dm, best_Dk, 1), axis=1, kind="stable")
        lists_Dk = put_together(np.take_along_axis(best_Dk, order_Dk, 1), explores_Dk)
        return lists_Dk[0], drawn_probabilities(lists_Dk[0], lists_Dk[1:])

    @torch.no_grad()
    def _moves(
        self, users: AdaptedUsers, candidate_Bm: IntArray, deviation_Bm: Float32Array
    ) -> Float64Array:
        """Return (B, W, m) what a standard normal draw of each weight adds to what lists are
        ordered by."""
        scorer, state = self.scorer, users.state
        learner = scorer.model.learner
        assert isinstance(learner, HasPosterior), "others are refused"
        rows = scorer.rows_of_now(candidate_Bm)
        _, design_BmW, _ = learner.linear_parts(scorer.params, rows)
        whitener_BWW = state["whitener"].double()
        move_BWm = whitener_BWW @ design_BmW.double().mT
        spread_Bm = scorer.predict(state, rows).spread_BR
        if spread_Bm is not None:
            own_Bm = spread_Bm.double().cpu().numpy() * scorer.model.units.scale
            ratio_Bm = np.where(np.isnan(deviation_Bm), 1.0, deviation_Bm / own_Bm)
            move_BWm = move_BWm * torch.from_numpy(ratio_Bm).to(move_BWm)[:, None]
        weight_B1 = scorer.settled(state)[LEARNER_WEIGHT].double()
        found: Float64Array = (weight_B1[:, None] * move_BWm).cpu().numpy()
        return found

    def _generator(self, name: str, known: Ragged) -> np.random.Generator:
        """Return the generator of a user with these rows."""
        said = hashlib.sha256(f"{self.config.seed}\0{name}\0".encode())
        said.update(known.item.astype("<i4").tobytes() + known.value.astype("<f4").tobytes())
        return np.random.default_rng(np.frombuffer(said.digest(), np.uint32))
