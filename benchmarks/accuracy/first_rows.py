"""`python -m benchmarks.accuracy.first_rows`: lists of a shop that has only just opened.

What the first 100, 1,000, 10,000 and all rows of a log are worth: everybody learns from these rows
alone, and makes lists for the same users, who come later. Writes docs/results/first-rows.json.

Legend: N rows, U users.
"""

import argparse
import dataclasses
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import code, datasets, meta_learned
from benchmarks.accuracy.arriving import (
    DEV_SHARE,
    FEWEST_QUERY,
    MOST_QUERY,
    MOST_USERS,
    SHOTS,
    Arrived,
    problem_of,
)
from benchmarks.accuracy.lists import to_text
from benchmarks.accuracy.problem import Development, Problem
from benchmarks.accuracy.summary import NUM_RESAMPLES, plain, verdict
from benchmarks.command import Found, show
from recmeta.config import fingerprint
from recmeta.evaluation.baseline import BaselineSearch
from recmeta.evaluation.comparison.bootstrap import Interval, mean_intervals
from recmeta.evaluation.fit_baselines import BASELINES as BASELINE_FILES
from recmeta.evaluation.fit_baselines import baseline
from recmeta.evaluation.measuring.catalogue_metrics import ranking_of
from recmeta.evaluation.measuring.values import RELEVANT_SHARE
from recmeta.evaluation.predictor import Predictor, Scores
from recmeta.metalearn.algorithms.model_based.prior_fitted import shipped_weights
from recmeta.metalearn.registry import LEARNERS as ALGORITHMS
from recmeta.records.provenance import library_versions
from recmeta.reporting.markdown import table
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Tasks
from recmeta.training.recipes import training_of
from recmeta.workspace import Folder, MemoryFolder

JUDGED = ("ml-100k", "lastfm-hetrec")
"""Data sets that the claims are about. Nothing of the prior was chosen on them."""
DEVELOPMENT = ("online-retail", "book-crossing")
"""Data sets to look at while something is being chosen."""
IMPLICIT = ("lastfm-hetrec", "online-retail")
BASELINES = ("popularity", "item-knn", "ease")
PRIOR, DEFAULT = "prior-fitted", "maml"
LEARNERS_HERE = (*BASELINES, DEFAULT, PRIOR)
SIZES = (100, 1_000, 10_000, None)
"""Numbers of first rows, or None for all that come before the first held-out user."""
K = 10
METRIC = f"full_ndcg@{K}"
RESULT = Path(__file__).parents[2] / "docs/results/first-rows.json"
RULES = (
    "The rows are put in the order of time; where a log has no times, its users are put in a "
    "random order, and so are each one's rows. Held out are the tenth of the users who appear "
    "last and have at least "
    f"{max(SHOTS) + FEWEST_QUERY} rows; of more than {MOST_USERS} so many are drawn. Everybody "
    "learns from the first n rows, none of which is a held-out user's, and is shown k rows of each "
    f"held-out user; the {FEWEST_QUERY} to {MOST_QUERY} rows after the tenth are asked about. The "
    "whole catalogue of the data set less the known rows is ranked, so that items nobody has taken "
    "yet are missed; ties are broken at random, and relevant is what was liked, of clicks what was "
    "taken. Hyperparameters of the "
    f"baselines and epochs of the default are chosen on the {DEV_SHARE:.0%} of the users of the "
    "first n rows who appear last; where there are fewer than five users, defaults hold. Means "
    f"over users; intervals by drawing users with replacement ({NUM_RESAMPLES:,} times)."
)


@dataclasses.dataclass(frozen=True)
class Cell:
    """What a learner made of some first rows."""

    value_KU: Float64Array
    """nDCG@10 of each held-out user, by number of shots."""
    fit_seconds: float
    """CPU time."""
    lists_seconds: float
    """CPU time of all lists."""


@dataclasses.dataclass(frozen=True)
class TiesAtRandom:
    """A predictor whose ties are broken at random, the same way for every learner.

    Of a hundred rows most items have the same counts; the metrics' rule, by which ties go against
    the relevant item, would then judge how a learner happens to break them.
    """

    inner: Predictor
    seed: int

    @property
    def name(self) -> str:
        """The predictor's."""
        return self.inner.name

    @property
    def predicts_values(self) -> bool:
        """Ranks are no values."""
        return False

    def score_query(self, tasks: Tasks) -> Scores:
        """Return the predictor's scores of the query rows."""
        return self.inner.score_query(tasks)

    def score_items(self, tasks: Tasks) -> Scores:
        """Return (B, I) ranks from the last, 0, to the first; what is not finite stays."""
        score_BI = self.inner.score_items(tasks)
        tie_BI = np.random.default_rng(self.seed).random(score_BI.shape)
        order_BI = np.lexsort((tie_BI, score_BI), axis=1)
        rank_BI = np.empty(order_BI.shape, np.float64)
        np.put_along_axis(rank_BI, order_BI, np.arange(order_BI.shape[1])[None], axis=1)
        return np.where(np.isfinite(score_BI), rank_BI, score_BI)


def fitted(learner: str, problem: Problem, liked_from: float, seed: int) -> Predictor:
    """Return a learner that has seen the first rows."""
    development = problem.development["user_cold"]
    if learner in BASELINES:
        search = BaselineSearch(
            objective=problem.objective,
            value_range=problem.value_range,
            num_items=problem.num_items,
            train=development.train,
            judges=development.judges,
            everybody=problem.train,
            items=problem.items,
            relevant_from=liked_from,
            seed=seed,
        )
        return search.fitted(baseline(learner))
    config = training_of(learner, problem.objective)
    if learner == PRIOR:  # nothing is chosen, so that nobody need be left out
        nobody = development.judges.take(np.zeros(0, np.int64))
        whole = Development(train=problem.train, judges=nobody)
        problem = dataclasses.replace(problem, development={"user_cold": whole})
    return meta_learned.fit(learner, config, problem, MemoryFolder(), seed).predictor


@dataclasses.dataclass(frozen=True)
class Setting:
    """The first rows of a data set, and the users who come later."""

    dataset: str
    arrived: Arrived
    size: int | None
    seed: int

    @property
    def is_graded(self) -> bool:
        """Whether values are ratings."""
        return self.dataset not in IMPLICIT

    @property
    def liked_from(self) -> float:
        """Smallest value that says that an item was liked."""
        if not self.is_graded:
            return -np.inf
        value = self.arrived.log.value
        lowest, highest = float(value.min()), float(value.max())
        return lowest + RELEVANT_SHARE * (highest - lowest)

    def problem(self) -> Problem:
        """Return what learners see."""
        first = self.arrived.first(self.size)
        return problem_of(self.arrived, first, is_graded=self.is_graded)

    def measured(self, learner: str) -> Cell:
        """Fit a learner and return nDCG@10 of every held-out user's lists."""
        problem, held_out = self.problem(), self.arrived.held_out(self.seed)
        started = time.process_time()
        predictor = TiesAtRandom(fitted(learner, problem, self.liked_from, self.seed), self.seed)
        trained = time.process_time()
        value_KU = np.stack(
            [
                ranking_of(predictor, some, problem.num_items, K, self.liked_from)[f"ndcg@{K}"]
                for some in map(held_out.with_shots, SHOTS)
            ]
        )
        return Cell(value_KU, trained - started, time.process_time() - trained)

    def cell(self, learner: str, work: Folder, *, only_kept: bool = False) -> Cell | None:
        """Return the same, read where it is there already.

        Args:
            only_kept: whether None is returned where it is not there.
        """
        weights = {name: w.tolist() for name, w in shipped_weights().items()}
        key = fingerprint(
            self.arrived.log.about["sha256"],
            self.size,
            self.seed,
            learner,
            RULES,
            code.fingerprint("benchmarks.accuracy.problem", _module_of(learner)),
            weights if learner == PRIOR else None,
        )
        name = f"{key}.npz"
        if not work.exists(name):
            if only_kept:
                return None
            found = self.measured(learner)
            stream = io.BytesIO()
            seconds = [found.fit_seconds, found.lists_seconds]
            np.savez(stream, value_KU=found.value_KU, seconds=seconds)
            work.write_bytes(name, stream.getvalue())
        kept = np.load(io.BytesIO(work.read_bytes(name)), allow_pickle=False)
        return Cell(kept["value_KU"], *kept["seconds"].tolist())


def measured(
    names: Sequence[str],
    learners: Sequence[str],
    data: Path | None,
    sizes: Sequence[int | None],
    work: Folder,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the result, JSON-ready; what an earlier run measured of other learners is in it, too.

    Args:
        work: keeps what has been measured, so that a run that was killed goes on.
    """
    rows: list[dict[str, Any]] = []
    differences: list[dict[str, Any]] = []
    costs: list[dict[str, Any]] = []
    about = []
    for name in names:
        log = datasets.read(name, data)
        about.append(log.about)
        arrived = Arrived.of(log, seed)
        for size in sizes:
            setting = Setting(name, arrived, size, seed)
            first = arrived.first(size)
            common = {
                "dataset": name,
                "rows": len(first),
                "users": len(np.unique(log.user[first])),
                "items": len(np.unique(log.item[first])),
            }
            found: dict[tuple[str, int], Float64Array] = {}
            for learner in LEARNERS_HERE:
                cell = setting.cell(learner, work, only_kept=learner not in learners)
                if cell is None:
                    continue
                found |= {(learner, k): cell.value_KU[n] for n, k in enumerate(SHOTS)}
                seconds = {
                    "fit_cpu_seconds": round(cell.fit_seconds, 2),
                    "lists_cpu_seconds": round(cell.lists_seconds, 2),
                }
                costs.append({**common, "learner": learner, **seconds})
            for (learner, shots), one in zip(found, _intervals(list(found.values())), strict=True):
                of = {"learner": learner, "shots": shots, "metric": METRIC}
                rows.append({**common, **of, **plain(one)})
            pairs = [key for key in found if key[0] != PRIOR and (PRIOR, key[1]) in found]
            values = [found[PRIOR, shots] - found[learner, shots] for learner, shots in pairs]
            for (learner, shots), one in zip(pairs, _intervals(values), strict=True):
                of = {"learner": PRIOR, "minus": learner, "shots": shots, "metric": METRIC}
                verdict_ = {"verdict": verdict(one, METRIC)}
                differences.append({**common, **of, **plain(one), **verdict_})
    return {
        "title": "Lists from the first rows of a log",
        "rules": RULES,
        "command": "python -m benchmarks.accuracy.first_rows",
        "data": about,
        "libraries": library_versions(),
        "rows": rows,
        "differences": differences,
        "costs": costs,
    }


def _module_of(learner: str) -> str:
    """Return where a learner's code begins."""
    files = BASELINE_FILES if learner in BASELINES else ALGORITHMS
    return files.module_of(learner)


def _intervals(values: Sequence[Float64Array]) -> list[Interval]:
    if not values:
        return []
    return mean_intervals(np.stack(values, 1), np.random.default_rng(0), NUM_RESAMPLES)


def _shown(mean: float | None) -> str:
    return "-" if mean is None else f"{mean:.4f}"


def report(found: dict[str, Any]) -> str:
    """Return a table per data set: nDCG@10 by number of rows, at each number of shots."""
    parts = [f"# {found['title']}", found["rules"]]
    for name in dict.fromkeys(row["dataset"] for row in found["rows"]):
        own = [row for row in found["rows"] if row["dataset"] == name]
        sizes = list(dict.fromkeys(row["rows"] for row in own))
        mean = {(r["learner"], r["rows"], r["shots"]): r["mean"] for r in own}
        cells = [
            [learner, str(k), *(_shown(mean.get((learner, n, k))) for n in sizes)]
            for k in SHOTS
            for learner in dict.fromkeys(row["learner"] for row in own)
        ]
        parts += [f"{name}, {METRIC} by first rows:", table(["", "k", *map(str, sizes)], cells)]
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.first_rows",
        description="Lists for later users, learned from the first rows of a log.",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with the data sets")
    parser.add_argument("--datasets", default=",".join(JUDGED), metavar="NAMES")
    parser.add_argument("--learners", default=",".join(LEARNERS_HERE), metavar="NAMES")
    parser.add_argument("--rows", metavar="NUMBERS", help="how many first rows (default: all)")
    parser.add_argument("--out", type=Path, default=RESULT, metavar="FILE")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args(arguments)
    sizes = SIZES if asked.rows is None else [int(n) for n in asked.rows.split(",")]

    def work() -> Found:
        found = measured(
            asked.datasets.split(","),
            asked.learners.split(","),
            asked.data,
            sizes,
            Folder.at(asked.out.parent) / "work" / "first-rows",
        )
        asked.out.write_text(to_text(found), encoding="utf-8")
        return {"out": str(asked.out), "rows": found["rows"]}, report(found)

    return show(work, as_json=asked.json)


if __name__ == "__main__":
    raise SystemExit(main())
