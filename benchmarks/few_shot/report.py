"""Learners in N-way K-shot classification, beside the nearest known image.

Legend: E test episodes.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.command import Found
from benchmarks.few_shot.episodes import EpisodeConfig, write_episodes
from benchmarks.few_shot.measured import Cell, cell, nearest_accuracy
from recmeta.evaluation.comparison.bootstrap import Interval, mean_intervals
from recmeta.records.provenance import library_versions
from recmeta.reporting.markdown import table
from recmeta.workspace import Folder, MemoryFolder

NEAREST = "nearest image"
"""The baseline: the class of the known image at the least Euclidean distance."""
LEARNERS = ("maml", "prototypical", "mamo", "adversarial")
"""The learners that are compared unless others are named."""
PROBLEMS = {
    "5-way 1-shot": EpisodeConfig(num_ways=5, num_shots=1, num_queries=3, num_episodes=240),
    "20-way 1-shot": EpisodeConfig(num_ways=20, num_shots=1, num_queries=2, num_episodes=60),
}
RULES = (
    "scikit-learn's handwritten digits in four rotations are forty classes: those of 0, 1, 6, 8 "
    "and 9 are learned from, those of 2, 3, 4, 5 and 7 tested. An episode of N classes is N tasks, "
    "each one class against the rest, and an image is of the class whose task says the most. "
    "Learners read the sums of 2 × 2 pixels, start at random, have one hidden layer of 32 units, "
    "and otherwise their defaults; nothing has been tuned. Means over test episodes with their "
    "95 % interval, each episode the mean over the seeds."
)


def run(learners: Sequence[str], num_seeds: int, work: Folder) -> Found:
    """Measure every learner in every problem.

    Args:
        work: keeps what has been measured, so that a run that was killed goes on.
    """
    rows = []
    for problem, config in PROBLEMS.items():
        # The episodes are the same for every seed; what learners draw differs.
        task_set = write_episodes(config, MemoryFolder(), 0)
        found = {NEAREST: [Cell(nearest_accuracy(task_set, config), 0.0)]}
        for seed, learner in itertools.product(range(num_seeds), learners):
            found.setdefault(learner, []).append(cell(learner, config, task_set, seed, work))
        for learner, cells in found.items():
            accuracy_E = np.mean([one.accuracy_E for one in cells], axis=0)
            (mean,) = mean_intervals(accuracy_E[:, None], np.random.default_rng(0))
            seconds = round(sum(one.seconds for one in cells) / len(cells), 1)
            of_one = {"problem": problem, "learner": learner, "accuracy": _rounded(mean)}
            rows.append(of_one | {"training_cpu_seconds": seconds})
    data = {
        "title": "N-way K-shot classification of handwritten digits",
        "rules": RULES,
        "command": f"python -m benchmarks.few_shot --seeds {num_seeds}",
        "seeds": num_seeds,
        "problems": {name: dataclasses.asdict(one) for name, one in PROBLEMS.items()},
        "libraries": library_versions(),
        "rows": rows,
    }
    return data, f"{RULES}\n\n{accuracy_table(rows)}"


def _rounded(found: Interval) -> dict[str, float]:
    return {end: round(getattr(found, end), 6) for end in ("mean", "ci_low", "ci_high")}


def accuracy_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the accuracies in per cent, a row per learner, as Markdown."""
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    shown = {(row["learner"], row["problem"]): _percent(row["accuracy"]) for row in rows}
    return table(
        ["accuracy in %", *problems],
        [
            [name if name == NEAREST else f"`{name}`", *(shown[name, p] for p in problems)]
            for name in dict.fromkeys(row["learner"] for row in rows)
        ],
    )


def _percent(found: Mapping[str, float]) -> str:
    mean, low, high = (100 * found[end] for end in ("mean", "ci_low", "ci_high"))
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"
