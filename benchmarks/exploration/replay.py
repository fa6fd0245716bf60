"""Replay on held-out users of a workspace, whose real ratings are the answers to what they are
shown.

A visit shows three of the items that the user rated and has not been shown yet (Li et al., WSDM
2011, in the form that lists allow); the model adapts to the answers before the next visit. The
measure is the share of shown items that the user liked.

Legend: B users, V visits, k places.
"""

import dataclasses
from typing import Any

import numpy as np

from benchmarks.exploration.policies import Policy, by_value, compared
from recmeta.evaluation.comparison.bootstrap import mean_intervals
from recmeta.manifest import latest
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.registry.models import versions
from recmeta.steps.data import build_tasks
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Ragged, Tasks, TaskSet
from recmeta.workspace import Workspace

NUM_VISITS, LENGTH, LIKED_FROM = 5, 3, 4.0


def run(location: str, seeds: int) -> tuple[dict[str, Any], str]:
    """Return the share of liked items by policy, and a table."""
    workspace = Workspace(location)
    model = Model.load(versions.model_folder(workspace, versions.in_use(workspace, None)))
    task_set = TaskSet(workspace / latest(workspace, build_tasks.STEP).outputs.tasks)
    test = task_set.tasks("test")
    rated = test.rows
    enough = np.flatnonzero(rated.lengths >= 2 * NUM_VISITS * LENGTH)
    users, rated = test.take(enough), rated.take(enough)
    scorer = by_value(model.on(task_set.items(), task_set.statistics(), task_set.history()))
    liked: dict[str, list[Float64Array]] = {}
    for seed in range(seeds):
        for policy in compared(seed):
            if seed and not policy.explore.share:
                continue
            liked.setdefault(policy.name, []).append(_liked(policy, scorer, users, rated))
    greedy_B = np.mean([one.mean(1) for one in liked["greedy"]], 0)
    rows, lines = [], []
    for name, found in liked.items():
        liked_BV = np.mean(found, 0)
        own_B = liked_BV.mean(1)
        columns = np.column_stack([own_B, own_B - greedy_B, liked_BV[:, -2:].mean(1)])
        mean, more, last = mean_intervals(columns, np.random.default_rng(0))
        row = {
            "policy": name,
            "liked": dataclasses.asdict(mean),
            "more_than_greedy": dataclasses.asdict(more),
            "last_two": dataclasses.asdict(last),
        }
        rows.append(row)
        lines.append(
            f"| {name} | {mean.mean:.3f} [{mean.ci_low:.3f}, {mean.ci_high:.3f}] | "
            f"{more.mean:+.4f} [{more.ci_low:+.4f}, {more.ci_high:+.4f}] | {last.mean:.3f} |"
        )
    text = "\n".join(
        [
            f"{len(users)} held-out users, {NUM_VISITS} visits of {LENGTH} items, "
            f"{seeds} seeds of what is random.",
            "",
            "| policy | liked of shown | more than greedy | last two visits |",
            "|---|---:|---:|---:|",
            *lines,
        ]
    )
    return {"rows": rows}, text


def _liked(policy: Policy, scorer: Scorer, users: Tasks, rated: Ragged) -> Float64Array:
    """Return (B, V) the share of shown items that users liked."""
    num_users = len(users)
    mask_BR = rated.mask
    pool_BR = np.full(mask_BR.shape, -1, np.int64)
    pool_BR[mask_BR] = rated.item
    value_BR = np.zeros(mask_BR.shape)
    value_BR[mask_BR] = rated.value
    known: list[list[int]] = [[] for _ in range(num_users)]
    values: list[list[float]] = [[] for _ in range(num_users)]
    liked_BV = np.empty((num_users, NUM_VISITS))
    for visit in range(NUM_VISITS):
        tasks = dataclasses.replace(users, support=Ragged.from_lists(known, values))
        item_Bk = policy.show(scorer, tasks, pool_BR, LENGTH, users.user_id).item_Bk
        for user in range(num_users):
            place = np.flatnonzero(np.isin(pool_BR[user], item_Bk[user]) & (pool_BR[user] >= 0))
            liked_BV[user, visit] = (value_BR[user, place] >= LIKED_FROM).mean()
            known[user] += pool_BR[user, place].tolist()
            values[user] += value_BR[user, place].tolist()
            pool_BR[user, place] = -1
    return liked_BV
