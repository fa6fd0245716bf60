"""Strong generalisation (Marlin, 2004; Liang, Krishnan, Hoffman and Jebara, Mult-VAE, WWW 2018):
whole users are held out, and what they may be recommended is ranked by a part of their items.

Ratings of four and five are taken as taken. Of a held-out user's items a random fifth is query, the
others are support; the whole catalogue less the support is ranked.
"""

import dataclasses

import numpy as np

from benchmarks.accuracy.arrival import halves
from benchmarks.accuracy.log import Log
from benchmarks.accuracy.problem import Development, Problem, lengths, ranks, shuffled, tasks_of
from recmeta.evaluation.measuring.catalogue_metrics import users_at_once
from recmeta.evaluation.measuring.catalogue_ranking import (
    Relevant,
    candidate_scores,
    ranks_in_catalogue,
)
from recmeta.evaluation.metrics.catalogue.catalogue_ndcg import catalogue_ndcg
from recmeta.evaluation.predictor import Predictor
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Tasks

STATE = "user_cold"
LIKED_FROM, FEWEST = 4, 5
COLD_SHARE, DEV_SHARE, QUERY_SHARE = 0.1, 0.1, 0.2
RECALLS, NDCG = (20, 50), 100


def liked(log: Log) -> Log:
    """Return only the ratings of four and more, as 1, of users with at least five of them."""
    log = log.select(log.value >= LIKED_FROM)
    enough = log.select(lengths(log.user) >= FEWEST)
    return dataclasses.replace(enough, value=np.ones_like(enough.value))


def problem(log: Log, training: str, seed: int) -> Problem:
    """Return what learners see: the users who are not cold, all their rows. A tenth of all users,
    drawn by the seed, are the judges."""
    role_U = _roles(log, seed)
    warm, train = (log.select(np.isin(role_U[log.user], roles)) for roles in ((0, 1), (0,)))
    judges = log.select(role_U[log.user] == 1)
    return Problem(
        name=log.about["name"],
        objective="implicit",
        value_range=(1.0, 1.0),
        items=log.items,
        train=halves(warm),
        development={
            STATE: Development(
                train=halves(train),
                judges=_folded_in(judges, train.item, np.random.default_rng([seed, 1])),
            )
        },
    )


def cold_users(log: Log, seed: int) -> dict[str, Tasks]:
    """Return a tenth of the users: a random fifth of the items of each is query."""
    is_cold = (_roles(log, seed) == 2)[log.user]
    generator = np.random.default_rng([seed, 2])
    return {STATE: _folded_in(log.select(is_cold), log.item[~is_cold], generator)}


def _roles(log: Log, seed: int) -> IntArray:
    """Return (U,) 0 for a user who trains, 1 for one who judges, 2 for a cold one."""
    users = np.random.default_rng([seed, 0]).permutation(np.unique(log.user))
    num_cold, num_dev = (round(share * len(users)) for share in (COLD_SHARE, DEV_SHARE))
    role_U = np.zeros(log.num_users, np.int64)
    role_U[users[:num_cold]] = 2
    role_U[users[num_cold : num_cold + num_dev]] = 1
    return role_U


def _folded_in(log: Log, met: IntArray, generator: np.random.Generator) -> Tasks:
    """Return tasks of users with five and more items that training users met; a fifth is query."""
    log = log.select(np.isin(log.item, met))
    log = log.select(lengths(log.user) >= FEWEST)
    order = shuffled(log, generator)
    num_query = np.floor(QUERY_SHARE * lengths(log.user[order]))
    return tasks_of(log, order, ranks(log.user[order]) < num_query, state=STATE)


def metrics(predictor: Predictor, tasks: Tasks, num_items: int) -> dict[str, Float64Array]:
    """Return (B,) the paper's metrics: `recall@20` and `recall@50`, whose denominator is at most k,
    and `ndcg@100`."""
    parts: list[list[Float64Array]] = []
    for batch in tasks.batches(users_at_once(num_items)):
        scores_BI, complete_B = candidate_scores(predictor.score_items(batch), batch)
        relevant = Relevant.of(batch, -np.inf, num_items)
        rank_R = ranks_in_catalogue(scores_BI, relevant, NDCG)
        recalls = [relevant.hits(rank_R, k) / np.minimum(relevant.count_B, k) for k in RECALLS]
        found = [catalogue_ndcg(rank_R, relevant, NDCG), *recalls]
        parts.append([np.where(complete_B, values, np.nan) for values in found])
    names = (f"ndcg@{NDCG}", *(f"recall@{k}" for k in RECALLS))
    return {name: np.concatenate([p[n] for p in parts]) for n, name in enumerate(names)}
