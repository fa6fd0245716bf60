"""Regret over 1,000 visits of users who come back, on synthetic logs with a known optimum.

A visit shows a list out of the whole catalogue; items may come again. The user rates what is shown,
with the log's noise, and the model adapts to it before the next visit. Regret is the true value of
the best items to the user minus that of the shown items.

Legend: B users, V visits of each, I items, k places.
"""

import dataclasses

import numpy as np

from benchmarks.exploration.policies import Policy, by_value, compared, trained
from recmeta import schema
from recmeta.evaluation.comparison.bootstrap import mean_intervals
from recmeta.metalearn.scorer import Scorer
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Ragged, Tasks
from recmeta.testing.synthetic import SyntheticConfig, generate

NUM_VISITS, NUM_USERS = 1_000, 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regret:
    """The regret of one policy on one log."""

    policy: str
    per_user_B: Float64Array
    """The sum over each user's visits."""
    first_visits: float
    """The share of the regret in the first quarter of the visits."""


def regrets(seed: int, config: SyntheticConfig, length: int) -> list[Regret]:
    """Return the regret of every policy on one log."""
    log = generate(config, seed)
    model, task_set = trained(log, seed)
    scorer = by_value(model)
    users = task_set.tasks("test").with_shots(0).take(np.arange(NUM_USERS))
    ids = log.users[schema.USER_ID].to_pylist()
    place_B = np.array([ids.index(user) for user in users.user_id])
    truth = log.truth
    value_BI = truth.item_base_I + truth.user_vector_Uw[place_B] @ truth.item_vector_Iw.T
    return [
        _of(policy, scorer, users, value_BI, truth.noise, seed, length) for policy in compared(seed)
    ]


def _of(
    policy: Policy,
    scorer: Scorer,
    users: Tasks,
    value_BI: Float64Array,
    noise: float,
    seed: int,
    length: int,
) -> Regret:
    num_users, num_items = value_BI.shape
    random = np.random.default_rng(seed)  # the same noise for all policies
    best_B = np.sort(value_BI, axis=1)[:, -length:].sum(1)
    pool_BI = np.tile(np.arange(num_items), (num_users, 1))
    known: list[list[int]] = [[] for _ in range(num_users)]
    values: list[list[float]] = [[] for _ in range(num_users)]
    regret_BV = np.empty((num_users, NUM_VISITS // num_users))
    low, high = scorer.model.value_range
    for visit in range(regret_BV.shape[1]):
        tasks = dataclasses.replace(users, support=Ragged.from_lists(known, values))
        item_Bk = policy.show(scorer, tasks, pool_BI, length, users.user_id).item_Bk
        shown_Bk = np.take_along_axis(value_BI, item_Bk, 1)
        regret_BV[:, visit] = best_B - shown_Bk.sum(1)
        rated_Bk = np.clip(shown_Bk + random.normal(0, noise, shown_Bk.shape), low, high)
        for user in range(num_users):
            known[user] += item_Bk[user].tolist()
            values[user] += rated_Bk[user].tolist()
    total = float(regret_BV.sum())
    quarter = regret_BV.shape[1] // 4
    return Regret(
        policy=policy.name,
        per_user_B=regret_BV.sum(1),
        first_visits=float(regret_BV[:, :quarter].sum()) / total,
    )


def run(seeds: int, *, length: int, hard: bool) -> tuple[dict[str, object], str]:
    """Return the regret of every policy over a number of logs, and its table.

    Args:
        length: of a list.
        hard: whether profiles say nothing, users differ in six ways, and noise is twice as large.
    """
    config = SyntheticConfig(num_users=600)
    if hard:
        config = dataclasses.replace(config, profile_share=0.0, noise=1.0, num_preferences=6)
    found = [regrets(seed, config, length) for seed in range(seeds)]
    rows, data = [], []
    greedy = np.concatenate([log[1].per_user_B for log in found])
    for number, one in enumerate(found[0]):
        own = np.concatenate([log[number].per_user_B for log in found])
        both = np.column_stack([own, own - greedy]) * NUM_USERS
        mean, less = mean_intervals(both, np.random.default_rng(0))
        early = float(np.mean([log[number].first_visits for log in found]))
        row = {
            "policy": one.policy,
            "regret": dataclasses.asdict(mean),
            "more_than_greedy": dataclasses.asdict(less),
            "in_first_quarter": early,
        }
        data.append(row)
        rows.append(
            f"| {one.policy} | {mean.mean:.0f} [{mean.ci_low:.0f}, {mean.ci_high:.0f}] "
            f"| {less.mean:+.0f} [{less.ci_low:+.0f}, {less.ci_high:+.0f}] | {early:.0%} |"
        )
    text = "\n".join(
        [
            f"Regret over {NUM_VISITS:,} visits with lists of {length}, mean of {seeds} logs, in "
            "units of the value.",
            "",
            "| policy | regret | more than greedy | in the first quarter |",
            "|---|---:|---:|---:|",
            *rows,
        ]
    )
    return {"rows": data, "seeds": seeds}, text
