"""What is done with a batch of users: adapt to them, rank the catalogue for each, give reasons.

Legend: B users, K places of a list, N support rows of all users.
"""

import dataclasses
import logging
import math
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from recmeta.endpoint.answers.champion import ServedChampion
from recmeta.endpoint.answers.items import DIGITS
from recmeta.endpoint.answers.models import RecommendationAnswer, Warning_
from recmeta.endpoint.answers.restrictions import NO_RESTRICTIONS, Restrictions
from recmeta.endpoint.aside import Aside
from recmeta.endpoint.events.histories import NOBODY, KnownUser, with_history
from recmeta.endpoint.operation.metrics import Metrics
from recmeta.metalearn.learner import UserState
from recmeta.metalearn.tensors.batch import Support
from recmeta.serving.intake import GivenUser, Value
from recmeta.serving.list_reasons import list_effects
from recmeta.serving.lists import LISTED_BY, relative_likelihoods
from recmeta.serving.ranking import adapt_users
from recmeta.tasks.arrays import BoolArray, Float32Array, Float64Array, IntArray
from recmeta.tasks.task_set import Tasks

log = logging.getLogger(__name__)
OnlineProfiles = Callable[[Sequence[str]], Mapping[str, Mapping[str, Value]]]
"""Returns the profiles in the online store, by user id; users whom it does not know are absent."""

KnownUsers = Callable[[Sequence[str]], Mapping[str, KnownUser]]
"""Returns histories and profiles of users by id; unknown users are absent."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ask:
    """One user's request, checked."""

    champion: ServedChampion
    """The champion that checked the request also answers it, even if a new version takes over
    meanwhile."""
    user: GivenUser
    user_id: str | None
    top_k: int
    max_reasons: int
    restrictions: Restrictions = NO_RESTRICTIONS


class BatchRecommender:
    """Answers batches of requests; in one thread."""

    def __init__(
        self,
        online: OnlineProfiles | None,
        metrics: Metrics,
        online_seconds: float,
        histories: KnownUsers | None = None,
    ) -> None:
        """
        Args:
            online_seconds: how long the online store may take; after that, answers do without it.
            histories: has the earlier interactions of users.
        """
        self.online = None if online is None else Aside(online, "recmeta-online-store")
        self.online_seconds = online_seconds
        self.histories = histories
        self.metrics = metrics

    def __call__(self, asks: Sequence[Ask]) -> list[RecommendationAnswer]:
        """Return an answer for each, in order."""
        started = time.perf_counter()
        answers: dict[int, RecommendationAnswer] = {}
        profiles, failed = self._profiles(asks)
        known, unread = self._known(asks)
        # While a new champion takes over, a batch may hold requests of the old one and of the new.
        for champion in {id(ask.champion): ask.champion for ask in asks}.values():
            places = [p for p, ask in enumerate(asks) if ask.champion is champion]
            own = [asks[place] for place in places]
            found = _lists(champion, own, profiles, known)
            answers |= dict(zip(places, found, strict=True))
        for place in failed:
            answers[place].warnings.append(
                Warning_(
                    code="profile_unavailable",
                    field="user_id",
                    message="the feature store did not answer; the given profile was used.",
                )
            )
        for place in unread:
            answers[place].warnings.append(
                Warning_(
                    code="history_unavailable",
                    field="user_id",
                    message="the user's earlier interactions could not be read, so they do not "
                    "count.",
                )
            )
        self.metrics.batch_users.observe(len(asks))
        self.metrics.batch_seconds.observe(time.perf_counter() - started)
        return [answers[place] for place in range(len(asks))]

    def _profiles(
        self, asks: Sequence[Ask]
    ) -> tuple[Mapping[str, Mapping[str, Value]], Sequence[int]]:
        """Return online profiles by user id, and the positions of requests that had to go
        without."""
        if self.online is None:
            return {}, ()
        ids = {ask.user_id for ask in asks if ask.user_id is not None}
        if not ids:
            return {}, ()
        try:
            return self.online.start(sorted(ids)).result(self.online_seconds), ()
        except Exception:  # a list without the profile is better than none
            self.metrics.online_failures.inc()
            log.exception("the online feature store failed")
            return {}, [p for p, ask in enumerate(asks) if ask.user_id is not None]

    def _known(self, asks: Sequence[Ask]) -> tuple[Mapping[str, KnownUser], Sequence[int]]:
        """Return the histories of users by id, and the positions of requests that go without."""
        ids = {ask.user_id for ask in asks if ask.user_id is not None}
        if self.histories is None or not ids:
            return {}, ()
        try:
            return self.histories(sorted(ids)), ()
        except sqlite3.Error:  # a list without it is better than none
            log.exception("the events could not be read")
            return {}, [p for p, ask in enumerate(asks) if ask.user_id is not None]


def _lists(
    champion: ServedChampion,
    asks: Sequence[Ask],
    profiles: Mapping[str, Mapping[str, Value]],
    histories: Mapping[str, KnownUser],
) -> list[RecommendationAnswer]:
    graded = champion.model.objective == "rating"
    now = time.time_ns() // 1_000
    known = [histories.get(ask.user_id or "", NOBODY) for ask in asks]
    users = [
        with_history(
            _with_profile(champion, ask, profiles),
            own,
            champion.intake.fields,
            graded=graded,
            now=now,
        )
        for ask, own in zip(asks, known, strict=True)
    ]
    tasks = champion.intake.tasks(users)
    longest = max(ask.top_k for ask in asks)
    support = champion.scorer.support(tasks)
    adapted = adapt_users(champion.scorer, tasks, support)
    if any(ask.restrictions.is_any for ask in asks):
        adapted = dataclasses.replace(adapted, allowed_BI=_allowed(champion, asks))
    lists = champion.lists.make(adapted, tasks, longest, [ask.user_id or "" for ask in asks])
    item_BK = lists.item_Bk
    # A reason compares the items of one list, which may be shorter than the longest asked for.
    is_asked_BK = np.arange(item_BK.shape[1]) < np.array([ask.top_k for ask in asks])[:, None]
    explained_BK = np.where(lists.is_popular_Bk | ~is_asked_BK, -1, item_BK)
    reasons = _reasons(champion, asks, tasks, adapted.state, support, explained_BK)
    likelihood_BK = _rounded(relative_likelihoods(lists.worth_Bk))
    score_BK, uncertainty_BK = _rounded(lists.score_Bk), _rounded(lists.uncertainty_Bk)
    answers = []
    for row, ask in enumerate(asks):
        length = min(ask.top_k, int(np.sum(item_BK[row] >= 0)))
        items = item_BK[row, :length].tolist()
        scores = score_BK[row, :length].tolist()
        likely = likelihood_BK[row, :length].tolist()
        uncertain = uncertainty_BK[row, :length].tolist()
        listed_by = lists.listed_by_Bk[row, :length].tolist()
        propensities = lists.propensity_Bk[row, :length].tolist()
        listed = [
            {
                "rank": place + 1,
                "item_id": champion.item_ids[item],
                "title": champion.titles[item],
                "relative_likelihood": likelihood,
                "score": score,
                "uncertainty": None if math.isnan(uncertainty) else uncertainty,
                "listed_by": LISTED_BY[listed_by[place]],
                "propensity": propensities[place],
                "reasons": reasons.get((row, place), []),
            }
            for place, (item, likelihood, score, uncertainty) in enumerate(
                zip(items, likely, scores, uncertain, strict=True)
            )
        ]
        found = {
            "model_version": champion.version,
            "num_used": int(tasks.support.lengths[row]),
            "num_known": len(known[row].past),
            "recommendations": listed,
        }
        # At once: forty models one after the other would take half of a batch's time.
        answers.append(RecommendationAnswer.model_validate(found))
    return answers


def _reasons(
    champion: ServedChampion,
    asks: Sequence[Ask],
    tasks: Tasks,
    state: UserState,
    support: Support,
    item_BK: IntArray,
) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """Return the reasons for each (row, place) that was asked for, with the fields of `Reason`: the
    largest effects first."""
    wanted = np.array([ask.max_reasons > 0 for ask in asks]) & (tasks.support.lengths > 0)
    rows = np.flatnonzero(wanted)
    if not len(rows):
        return {}
    if len(rows) == len(asks):
        some = tasks
        effects = list_effects(champion.scorer, state, tasks, item_BK, support)
    else:
        some = tasks.take(rows)
        chosen = {name: t[torch.from_numpy(rows).to(t.device)] for name, t in state.items()}
        effects = list_effects(champion.scorer, chosen, some, item_BK[rows])
    found = {}
    for number, row in enumerate(rows.tolist()):
        ask = asks[row]
        own = slice(int(some.support.offsets[number]), int(some.support.offsets[number + 1]))
        given = some.support.item[own].tolist()
        effect_NK = effects.effect_Nk[own, : ask.top_k]
        order_NK = np.argsort(-np.abs(effect_NK), axis=0, kind="stable")[: ask.max_reasons]
        largest_NK = _rounded(np.take_along_axis(effect_NK, order_NK, axis=0))
        pairs = zip(order_NK.T.tolist(), largest_NK.T.tolist(), strict=True)
        for place, (order, values) in enumerate(pairs):
            found[row, place] = [
                {
                    "because_item": champion.item_ids[given[n]],
                    "title": champion.titles[given[n]],
                    "effect": effect,
                }
                for n, effect in zip(order, values, strict=True)
                if effect and not math.isnan(effect)
            ]
    return found


def _allowed(champion: ServedChampion, asks: Sequence[Ask]) -> BoolArray:
    """Return (B, I) which items each user's list may contain."""
    allowed_BI = np.ones((len(asks), champion.model.catalogue.num_items), np.bool_)
    for row, ask in enumerate(asks):
        if ask.restrictions.is_any:
            number_of = champion.intake.number_of
            allowed_BI[row] = ask.restrictions.allowed(champion.attributes, number_of)
    return allowed_BI


def _rounded(values: Float32Array) -> Float64Array:
    """Return numbers without the noise of single precision."""
    return np.asarray(np.round(values.astype(np.float64), DIGITS), np.float64)


def _with_profile(
    champion: ServedChampion, ask: Ask, profiles: Mapping[str, Mapping[str, Value]]
) -> GivenUser:
    """Return the user with the profile of the online store, if it has one."""
    known = profiles.get(ask.user_id) if ask.user_id is not None else None
    if known is None:
        return ask.user
    read = {name: value for name, value in known.items() if name in champion.intake.fields}
    return dataclasses.replace(ask.user, profile=read)
