"""Bias of off-policy estimates and coverage of their intervals, where the truth is known.

A policy serves lists of five with logged propensities to synthetic users; each place is clicked
with a probability that depends on the user's true value of the item and falls with the place. What
another policy would earn is then known exactly, and so is by how much an estimate is off.

Legend: B users, I items, k places.
"""

from typing import Any

import numpy as np

from benchmarks.exploration.policies import ALWAYS, Policy, Slates, by_value, trained
from recmeta import schema
from recmeta.evaluation.off_policy.estimate import EstimatorName, OffPolicyConfig, estimate
from recmeta.evaluation.off_policy.slates import LoggedSlates, OtherLists
from recmeta.serving.exploration.config import ExploreConfig
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.testing.synthetic import SyntheticConfig, generate

LENGTH = 5
NAMES: tuple[EstimatorName, ...] = ("ips", "snips", "dr")


def run(
    num_simulations: int, num_users: int, by: str, share: float, first: int = 0
) -> tuple[dict[str, Any], str]:
    """Return bias and coverage of each estimator for two other policies, and a table.

    Args:
        num_users: who are served, each once.
        by, share: how the policy that serves explores.
        first: seed of the first simulation; each has the next.
    """
    log = generate(SyntheticConfig(num_users=600), 0)
    model, task_set = trained(log, 0)
    scorer = by_value(model)
    test = task_set.tasks("test").with_shots(3)
    users = test.take(np.arange(num_users) % len(test))
    ids = log.users[schema.USER_ID].to_pylist()
    place_B = np.array([ids.index(user) for user in users.user_id])
    truth = log.truth
    value_BI = truth.item_base_I + truth.user_vector_Uw[place_B] @ truth.item_vector_Iw.T
    examined_k = 1 / np.log2(2 + np.arange(LENGTH))
    chance_BI = 0.3 / (1 + np.exp(4.0 - value_BI))
    pool_BI = np.tile(np.arange(log.config.num_items), (num_users, 1))
    greedy = Policy(name="greedy")
    names = [str(n) for n in range(num_users)]
    plain_BI = greedy.show(scorer, users, pool_BI, log.config.num_items, names).item_Bk
    # The best twenty by the model stand to choose from, so that popularity is not hopeless.
    candidate_BI = plain_BI[:, :20]
    others = {
        "greedy": plain_BI[:, :LENGTH],
        "popular first": Policy(name="", by_popularity=True)
        .show(scorer, users, candidate_BI, LENGTH, names)
        .item_Bk,
    }
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    effective: dict[str, list[float]] = {name: [] for name in others}
    warned: dict[str, list[bool]] = {name: [] for name in others}
    for simulation in range(first, first + num_simulations):
        explore = ExploreConfig(
            by=by,  # type: ignore[arg-type]
            share=share,
            most_interactions=ALWAYS,
            candidates=20,
            draws=500,
            seed=simulation,
        )
        served = Policy(name="", explore=explore).show(scorer, users, candidate_BI, LENGTH, names)
        clicks = np.random.default_rng([1, simulation])
        rate_Bk = np.take_along_axis(chance_BI, served.item_Bk, 1) * examined_k
        reward_Bk = (clicks.random(rate_Bk.shape) < rate_Bk).astype(float)
        for name, item_Bk in others.items():
            earns = (np.take_along_axis(chance_BI, item_Bk, 1) * examined_k).sum(1).mean()
            logged, other = _arrays(served, reward_Bk, item_Bk)
            result = estimate(logged, other, OffPolicyConfig(seed=simulation, num_resamples=1000))
            effective[name].append(result.effective_rows)
            warned[name].append(bool(result.warnings))
            for estimator in NAMES:
                value = result.estimates[estimator].value
                found.setdefault((name, estimator), []).append(
                    (value.mean - earns, value.ci_low - earns, value.ci_high - earns)
                )
            found.setdefault((name, "truth"), []).append((earns, 0, 0))
    return _told(found, effective, warned, num_simulations, num_users, by, share)


def _told(
    found: dict[tuple[str, str], list[tuple[float, float, float]]],
    effective: dict[str, list[float]],
    warned: dict[str, list[bool]],
    num_simulations: int,
    num_users: int,
    by: str,
    share: float,
) -> tuple[dict[str, Any], str]:
    rows, lines = [], []
    for (name, estimator), values in found.items():
        if estimator == "truth":
            continue
        off, low, high = np.array(values).T
        truth = found[name, "truth"][0][0]
        covered = (low <= 0) & (high >= 0)
        row = {
            "other": name,
            "estimator": estimator,
            "truth": truth,
            "bias": float(off.mean()),
            "bias_error": float(off.std(ddof=1) / np.sqrt(len(off))),
            "rmse": float(np.sqrt((off**2).mean())),
            "coverage": float(covered.mean()),
            "effective_rows": float(np.mean(effective[name])),
            "warned": float(np.mean(warned[name])),
        }
        rows.append(row)
        lines.append(
            f"| {name} | {estimator} | {truth:.3f} | {row['bias']:+.4f} ± {row['bias_error']:.4f} "
            f"| {row['rmse']:.3f} | {row['coverage']:.1%} | {row['effective_rows']:.0f} "
            f"| {row['warned']:.0%} |"
        )
    text = "\n".join(
        [
            f"{num_simulations} simulations of {num_users} lists of {LENGTH}, served by {by}, "
            f"share {share:g}; 95 % intervals.",
            "",
            "| other policy | estimator | it earns | bias | RMSE | coverage | effective places "
            "| warned |",
            "|---|---|---:|---:|---:|---:|---:|---:|",
            *lines,
        ]
    )
    return {"rows": rows}, text


def _arrays(
    served: Slates, reward_Bk: Float64Array, other_Bk: IntArray
) -> tuple[LoggedSlates, OtherLists]:
    num_users, length = reward_Bk.shape
    slate = np.repeat(np.arange(num_users), length)
    place = np.tile(np.arange(length), num_users)
    logged = LoggedSlates(
        user_S=np.arange(num_users),
        slate_N=slate,
        place_N=place,
        item_N=served.item_Bk.ravel(),
        propensity_N=served.propensity_Bk.ravel(),
        reward_N=reward_Bk.ravel(),
    )
    other = OtherLists(
        slate_T=slate, place_T=place, item_T=other_Bk.ravel(), probability_T=np.ones(len(slate))
    )
    return logged, other


def variants(num_simulations: int, num_users: int, first: int) -> tuple[dict[str, Any], str]:
    """Return the same for both ways to explore."""
    parts = [
        run(num_simulations, num_users, by, share, first)
        for by, share in (("uniform", 0.3), ("thompson", 0.3))
    ]
    return {"runs": [data for data, _ in parts]}, "\n\n".join(text for _, text in parts)
