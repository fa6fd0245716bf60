"""Lists as they are published: ranked items by the rules, with the uncertainty of and the reason
for each.

Legend: B users, k list length, m candidates, N support rows of all users, I items.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch

from recmeta.errors import UserError
from recmeta.metalearn.predicted_rows import PredictedRows, predict_rows
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.exploration.explorer import Explorer
from recmeta.serving.list_reasons import list_effects
from recmeta.serving.ranking import AdaptedUsers, Ranker, ScoringConfig
from recmeta.serving.rearrange import Arrangement, Cap
from recmeta.serving.retrieval import (
    Factors,
    Index,
    RetrievalConfig,
    rank_scores,
    recall,
)
from recmeta.serving.rules import ItemFacts, categories, eligible_items, kind_codes
from recmeta.tasks.arrays import BoolArray, Float32Array, Float64Array, IntArray
from recmeta.tasks.task_set import Ragged, Tasks

FEWEST_ANCHORS = 16
"""With fewer users, an index does not pay, and its recall cannot be measured."""
LISTED_BY = ("model", "popularity", "exploration")
"""What put an item at its place."""
MORE = 4
"""The factor by which more candidates are fetched for users whose list is not full."""


@dataclasses.dataclass(frozen=True)
class Lists:
    """The lists of B users. Places past a list's end have item -1."""

    item_Bk: IntArray
    worth_Bk: Float32Array
    """As in `RankedLists`."""
    score_Bk: Float32Array
    """As in `RankedLists`."""
    is_popular_Bk: BoolArray
    """Whether the place went to a popular item because the model was too uncertain, or because its
    lists are not certified for the user."""
    is_explored_Bk: BoolArray
    """Whether the place went to an item that it would not have had without exploration."""
    propensity_Bk: Float64Array
    """The probability of this item at this place, which is 1 without exploration: see
    `recmeta.serving.exploration.drawn_lists`. NaN past the end."""
    uncertainty_Bk: Float32Array
    """Standard deviation of the value that the user would give, in units of the value; NaN if the
    model has none."""
    because_Bk: IntArray
    """The item of the user's interaction that speaks most for this item rather than for the list's
    others; -1 if none does."""

    @property
    def listed_by_Bk(self) -> IntArray:
        """The number in `LISTED_BY` of what put each item there."""
        return np.where(self.is_explored_Bk, 2, self.is_popular_Bk)


@dataclasses.dataclass(frozen=True)
class _Retrieval:
    """Candidates from an index of the eligible items."""

    config: RetrievalConfig
    factors: Factors
    index: Index
    item_I: IntArray
    """The item of each vector."""

    def search(self, scorer: Scorer, users: AdaptedUsers) -> IntArray:
        """Return (B, n) candidates; -1 where there are no more."""
        landmarks = self.item_I[self.factors.landmark_L]
        settled = scorer.settled(users.state)
        query_Bf = self.factors.query(rank_scores(scorer, settled, landmarks))
        num_seen = int(np.bincount(users.seen_user, minlength=1).max())
        most = min(len(self.item_I), self.config.candidates + num_seen)
        place_Bn = self.index.search(query_Bf, most)
        return np.where(place_Bn >= 0, self.item_I[place_Bn], -1)


def relative_likelihoods(worth_Bk: Float32Array) -> Float32Array:
    """Return (B, k) the probability that each listed item is taken and liked next, divided by the
    largest one of its list: between 0 and 1."""
    first_B1 = worth_Bk.max(1, keepdims=True, initial=-np.inf)
    return np.exp(worth_Bk - np.where(np.isfinite(first_B1), first_B1, 0)).astype(np.float32)


class ListMaker:
    """Makes lists by one model and configuration. One object serves many calls."""

    def __init__(
        self, scorer: Scorer, config: ScoringConfig, facts: ItemFacts | None = None
    ) -> None:
        """
        Raises:
            UserError: if a rule does not fit the catalogue or the model.
        """
        self.model = model = scorer.model
        rules, items = config.rules, model.catalogue.items
        self.config = config
        self.is_eligible_I = eligible_items(items, rules, facts or ItemFacts())
        if rules.max_uncertainty is not None and model.uncertainty is None:
            raise UserError(
                "max_uncertainty is set, but this model does not predict its uncertainty: leave "
                "it out (min_interactions works with any model), or train a model on ratings."
            )
        self.caps = tuple(
            Cap(categories(items, name)[0], most) for name, most in rules.max_per_category.items()
        )
        self.kind_IW = kind_codes(items) if rules.diversity else None
        self.ranker = Ranker(scorer, config, self.is_eligible_I)
        self.scorer = self.ranker.scorer
        self.explorer = None
        if config.explore is not None:
            self.explorer = Explorer(self.scorer, config.explore)
        self.certificate = None
        """The users who get the model's lists; if None, everybody does."""
        if config.never_worse and model.certificate is not None and model.certificate.is_partial:
            self.certificate = model.certificate
        self._retrieval: _Retrieval | None = None
        popularity_I = self.scorer.lists.count_I.cpu().numpy()
        order_I = np.argsort(-popularity_I, kind="stable")
        self._popular = order_I[self.is_eligible_I[order_I]]

    def make(
        self,
        users: AdaptedUsers,
        tasks: Tasks,
        top_k: int | None = None,
        names: Sequence[str] | None = None,
    ) -> Lists:
        """Return the lists of adapted users.

        Args:
            tasks: what the users were adapted to, in the same order.
            top_k: length of the lists, at most that of the configuration; if None, that length.
            names: of the users, on which the draws of exploration depend; if None, their ids.
        """
        top_k = top_k or self.config.top_k
        if self.explorer is not None:
            return self._exploring(users, tasks, top_k, names or users.user_id, self.explorer)
        item_Bk, worth_Bk, is_popular_Bk = self._plain(users, tasks, top_k)
        score_Bk, deviation_Bk = self._shown(users, tasks, item_Bk, worth_Bk)
        return Lists(
            item_Bk,
            worth_Bk,
            score_Bk,
            is_popular_Bk,
            np.zeros(item_Bk.shape, np.bool_),
            np.where(item_Bk >= 0, 1.0, np.nan),
            deviation_Bk,
            self._reasons(users, tasks, np.where(is_popular_Bk, -1, item_Bk)),
        )

    def _plain(
        self, users: AdaptedUsers, tasks: Tasks, length: int
    ) -> tuple[IntArray, Float32Array, BoolArray]:
        """Return (B, k) items of lists without exploration, their worths, and which of them are
        popular items in place of the model's."""
        length = min(length, self.model.catalogue.num_items)
        if self.config.rules.rearrange or self.certificate is not None:
            item_Bk, is_popular_Bk = self._arranged(users, tasks, length)
            return item_Bk, self._worths(users, item_Bk), is_popular_Bk
        item_Bk, worth_Bk = self._best(users, tasks, length)
        return item_Bk, worth_Bk, np.zeros(item_Bk.shape, np.bool_)

    def _shown(
        self, users: AdaptedUsers, tasks: Tasks, item_Bk: IntArray, worth_Bk: Float32Array
    ) -> tuple[Float32Array, Float32Array]:
        """Return (B, k) the scores that lists show, and their standard deviations; NaN where there
        is none."""
        if self.model.uncertainty is None or self.model.objective != "rating" or not item_Bk.size:
            score_Bk = self.ranker.scores(users.state, item_Bk, worth_Bk)
            return score_Bk, np.full(item_Bk.shape, np.nan, np.float32)
        found = _predicted(self.scorer, users, tasks, item_Bk)
        expected_Bk = found.expected_N.reshape(item_Bk.shape)
        lowest = np.float32(self.model.value_range[0])
        return np.where(item_Bk >= 0, expected_Bk, lowest), _deviation(found, item_Bk)

    def _exploring(
        self,
        users: AdaptedUsers,
        tasks: Tasks,
        top_k: int,
        names: Sequence[str],
        explorer: Explorer,
    ) -> Lists:
        """Return lists in which some places explore among the best items."""
        # As many whatever is asked for, so that a list begins as a longer one does.
        num_candidates = max(explorer.config.candidates, self.config.top_k)
        item_Bm, worth_Bm, is_popular_Bm = self._plain(users, tasks, num_candidates)
        score_Bm, deviation_Bm = self._shown(users, tasks, item_Bm, worth_Bm)
        found = explorer.lists(users, tasks, item_Bm, worth_Bm, deviation_Bm, top_k, names)
        place_Bk = np.maximum(found.place_Bk, 0)
        is_item_Bk = found.place_Bk >= 0
        item_Bk = np.where(is_item_Bk, np.take_along_axis(item_Bm, place_Bk, 1), -1)
        is_popular_Bk = np.take_along_axis(is_popular_Bm, place_Bk, 1)
        is_popular_Bk &= is_item_Bk & ~found.is_explored_Bk
        worth_Bk = np.take_along_axis(worth_Bm, place_Bk, 1)
        deviation_Bk = np.take_along_axis(deviation_Bm, place_Bk, 1)
        return Lists(
            item_Bk,
            np.where(is_item_Bk, worth_Bk, np.float32(-np.inf)),
            np.take_along_axis(score_Bm, place_Bk, 1),
            is_popular_Bk,
            found.is_explored_Bk,
            found.propensity_Bk,
            np.where(is_item_Bk, deviation_Bk, np.float32(np.nan)),
            self._reasons(users, tasks, np.where(is_popular_Bk, -1, item_Bk)),
        )

    def _arranged(
        self, users: AdaptedUsers, tasks: Tasks, top_k: int
    ) -> tuple[IntArray, BoolArray]:
        """Return (B, k) items by the rules, and which of them are popular items in place of the
        model's."""
        rules, num_users = self.config.rules, len(tasks)
        lists = Arrangement(num_users, top_k, self.caps, self.kind_IW, rules.diversity)
        known_B = tasks.support.lengths >= rules.min_interactions
        if self.certificate is not None:
            value_B = self.certificate.values(tasks.profile)
            known_B = known_B & self.certificate.holds(tasks.support.lengths, value_B)
        num_candidates = max(rules.candidates, top_k)
        item_Bm = self._candidates(users, tasks, num_candidates)
        lists.fill(np.where(known_B[:, None], item_Bm, -1))
        # Whom caps left short may have further candidates, unless it is certainty that they lack.
        has_more_B = np.asarray((item_Bm >= 0).all(1))
        while num_candidates < len(self._popular) and rules.max_uncertainty is None:
            short = np.flatnonzero((lists.num_placed_B < top_k) & known_B & has_more_B)
            if not len(short):
                break
            num_candidates *= MORE
            more_Bm = self._candidates(_some(users, short), tasks.take(short), num_candidates)
            candidate_Bm = np.full((num_users, more_Bm.shape[1]), -1, np.int64)
            candidate_Bm[short] = more_Bm
            has_more_B[short] = (more_Bm >= 0).all(1)
            lists.fill(candidate_Bm)
        placed_B = lists.num_placed_B.copy()
        if rules.falls_back or self.certificate is not None:
            lists.fill(self._popular_unseen(users, num_users))
        is_popular_Bk = np.arange(top_k) >= placed_B[:, None]
        return lists.item_Bk, is_popular_Bk & (lists.item_Bk >= 0)

    def _candidates(self, users: AdaptedUsers, tasks: Tasks, num_candidates: int) -> IntArray:
        """Return (B, m) the best items; -1 for those about which the model is too uncertain."""
        item_Bm, _ = self._best(users, tasks, num_candidates)
        most = self.config.rules.max_uncertainty
        if most is None:
            return item_Bm
        is_sure_Bm = deviations(self.scorer, users, tasks, item_Bm) <= most
        return np.where(is_sure_Bm, item_Bm, -1)

    def use_index(
        self, make: Callable[[Float32Array, Float32Array], Index], users: AdaptedUsers, tasks: Tasks
    ) -> float | None:
        """Find candidates by an index from now on, if its recall is high enough.

        Args:
            make: makes an index of vectors, which is to serve queries such as the second ones.
            users: anchors first, then judges; see `RetrievalConfig`.
            tasks: what they were adapted to.

        Returns:
            The recall of the judges' lists. None if there are too few users to measure it; then all
            items are still scored.

        Raises:
            UserError: if the recall is too low, and the configuration says that the step then
                fails.
        """
        config = self.config.retrieval
        assert config is not None
        num_anchors = min(config.num_anchors, len(tasks) // 2)
        if num_anchors < FEWEST_ANCHORS:
            return None
        anchors = _some(users, np.arange(num_anchors))
        items = np.flatnonzero(self.is_eligible_I)
        score_AI = np.empty((num_anchors, len(items)), np.float32)
        settled = self.scorer.settled(anchors.state)
        for first in range(0, len(items), self.config.item_block):
            block = slice(first, first + self.config.item_block)
            score_AI[:, block] = rank_scores(self.scorer, settled, items[block])
        factors = Factors.of(score_AI, config.num_factors, np.random.default_rng(0))
        judges = np.arange(num_anchors, min(len(tasks), num_anchors + config.num_judges))
        some, of_judges = _some(users, judges), tasks.take(judges)
        truth_Bk, _ = self._best(some, of_judges, self.config.top_k)
        query_Af = factors.query(score_AI[:, factors.landmark_L])
        index = make(factors.vector_If, query_Af)
        self._retrieval = _Retrieval(config, factors, index, items)
        found_Bk, _ = self._best(some, of_judges, self.config.top_k)
        share = recall(found_Bk, truth_Bk)
        if share < config.min_recall:
            self._retrieval = None
            if config.below == "fail":
                raise UserError(
                    f"retrieval finds {share:.1%} of what scoring all items finds, and min_recall "
                    f"is {config.min_recall:.1%}: raise candidates ({config.candidates}) or "
                    f"num_factors ({config.num_factors}), or score all items."
                )
        return share

    @property
    def uses_index(self) -> bool:
        """Whether candidates are found by an index."""
        return self._retrieval is not None

    def _best(
        self, users: AdaptedUsers, tasks: Tasks, length: int
    ) -> tuple[IntArray, Float32Array]:
        """Return (B, length) the best items and their worths, of all or of candidates."""
        retrieval, is_limited = self._retrieval, users.allowed_BI is not None
        if retrieval is None or length > retrieval.config.candidates or is_limited:
            return self.ranker.best(users, length)
        item_Bn = retrieval.search(self.scorer, users)
        worth_Bn = self._worths(users, item_Bn)
        if self.config.exclude_seen:
            for place in range(int(tasks.support.lengths.max(initial=0))):
                here = tasks.support.position == place
                user, item = tasks.support.task[here], tasks.support.item[here]
                worth_Bn[user] = np.where(item_Bn[user] == item[:, None], -np.inf, worth_Bn[user])
        order_Bk = np.argsort(-worth_Bn, axis=1, kind="stable")[:, :length]
        chosen_Bk = np.take_along_axis(item_Bn, order_Bk, 1)
        worth_Bk = np.take_along_axis(worth_Bn, order_Bk, 1)
        return np.where(np.isfinite(worth_Bk), chosen_Bk, -1), worth_Bk

    def _popular_unseen(self, users: AdaptedUsers, num_users: int) -> IntArray:
        """Return (B, m) eligible items by popularity; -1 for a user's own."""
        seen_B = np.bincount(users.seen_user, minlength=num_users)
        enough = self.config.rules.candidates + self.config.top_k + int(seen_B.max(initial=0))
        if self.caps:
            enough = len(self._popular)
        item_Bm = np.tile(self._popular[:enough], (num_users, 1))
        if users.allowed_BI is not None:
            # As many of those that each may have: the whole catalogue would be slow to arrange.
            allowed_BI = users.allowed_BI.copy()
            if self.config.exclude_seen:
                allowed_BI[users.seen_user, users.seen_item] = False
            item_Bm[:] = -1
            for own_m, allowed_I in zip(item_Bm, allowed_BI, strict=True):
                found = self._popular[allowed_I[self._popular]][: len(own_m)]
                own_m[: len(found)] = found
        elif self.config.exclude_seen:
            place_I = np.full(self.model.catalogue.num_items, -1, np.int64)
            place_I[self._popular[:enough]] = np.arange(item_Bm.shape[1])
            place = place_I[users.seen_item]
            item_Bm[users.seen_user[place >= 0], place[place >= 0]] = -1
        return item_Bm

    def _reasons(self, users: AdaptedUsers, tasks: Tasks, item_Bk: IntArray) -> IntArray:
        if not self.config.reasons or not len(tasks.support.item):
            return np.full(item_Bk.shape, -1, np.int64)
        row_Bk = list_effects(self.scorer, users.state, tasks, item_Bk).best_reason()
        return np.where(row_Bk >= 0, tasks.support.item[np.maximum(row_Bk, 0)], -1).astype(np.int64)

    @torch.no_grad()
    def _worths(self, users: AdaptedUsers, item_Bk: IntArray) -> Float32Array:
        """Return (B, k) the values by which lists are ordered."""
        rows = self.scorer.rows_of_now(item_Bk)
        output_Bk = self.scorer.predict(users.state, rows).listed_by_BR
        settled = self.scorer.settled(users.state)
        worth_Bk = self.scorer.order(settled, output_Bk, rows).float().cpu().numpy()
        return np.where(item_Bk >= 0, worth_Bk, np.float32(-np.inf))


def deviations(
    scorer: Scorer, users: AdaptedUsers, tasks: Tasks, item_Bk: IntArray
) -> Float32Array:
    """Return (B, k) standard deviations of users' items; NaN if there is none."""
    if scorer.model.uncertainty is None or not item_Bk.size:
        return np.full(item_Bk.shape, np.nan, np.float32)
    return _deviation(_predicted(scorer, users, tasks, item_Bk), item_Bk)


def _predicted(
    scorer: Scorer, users: AdaptedUsers, tasks: Tasks, item_Bk: IntArray
) -> PredictedRows:
    """Return the predictions of users' items, laid end to end; of item 0 where there is none."""
    asked = dataclasses.replace(tasks, query=Ragged.asking(item_Bk))
    return predict_rows(scorer, users.state, asked)


def _deviation(found: PredictedRows, item_Bk: IntArray) -> Float32Array:
    assert found.deviation_N is not None, "the model says how certain it is"
    deviation_Bk = found.deviation_N.reshape(item_Bk.shape).astype(np.float32)
    return np.where(item_Bk >= 0, deviation_Bk, np.float32(np.nan))


def _some(users: AdaptedUsers, chosen: IntArray) -> AdaptedUsers:
    """Return the users at these positions, which are in rising order."""
    place_B = np.full(len(users.user_id), -1, np.int64)
    place_B[chosen] = np.arange(len(chosen))
    kept = place_B[users.seen_user] >= 0
    index = torch.from_numpy(chosen)
    return AdaptedUsers(
        [users.user_id[n] for n in chosen],
        {name: t[index.to(t.device)] for name, t in users.state.items()},
        place_B[users.seen_user[kept]],
        users.seen_item[kept],
        None if users.allowed_BI is None else users.allowed_BI[chosen],
    )
