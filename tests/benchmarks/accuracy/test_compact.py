"""What git keeps of a result: all of its numbers, in little room."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.accuracy.__main__ import RESULTS
from benchmarks.accuracy.compact import compact, expand, to_text
from benchmarks.accuracy.report import benchmark_report

KEPT = sorted(RESULTS.rglob("*.json"))
MOST_BYTES = 400_000


def interval(mean: float, *, users: int = 9) -> dict[str, Any]:
    return {"mean": mean, "ci_low": mean - 0.1, "ci_high": mean + 0.1, "num_users": users}


def result() -> dict[str, Any]:
    """Return a small result in which a learner lacks a metric and a difference ends beside zero."""
    warm = {"training": "all", "state": "warm"}
    chosen = {"chosen_by": "judges", "config": {"width": 2, "seed": 1}}
    chosen |= {"development_loss": 0.5, "trials": 3}
    common = {"protocol": "small", "training": "all", "libraries": {"torch": "2"}}
    cells = [
        {**common, "learner": n, "seed": s, "chosen": {"warm": chosen, "cold": chosen}}
        for s in (0, 1)
        for n in ("base", "maml")
    ]
    for cell in cells:
        cell |= {"training_cpu_minutes": 1 / 3, "adaptation_cpu_us": 12.0, "git_commit": "0" * 40}
    beside_zero = {"mean": -0.2, "ci_low": -0.4, "ci_high": -0.0, "num_users": 9}
    return {
        "protocol": "small",
        "title": "Small",
        "objective": "rating",
        "primary_metric": "mae",
        "lower_is_better": True,
        "rules": "None.",
        "command": "python -m benchmarks.accuracy small --seeds 2",
        "data": {"name": "small", "sha256": "0" * 64, "cite": "Nobody", "verified": {"rows": 1}},
        "code": {"recmeta": "0"},
        "libraries": {"torch": "2"},
        "cpus": 2,
        "baselines": ["base"],
        "published": [],
        "rows": [
            {"learner": "base", **warm, "metric": "mae", **interval(0.123457), "seeds": [0, 1]},
            {"learner": "base", **warm, "metric": "rmse", **interval(1.25), "seeds": [0, 1]},
            {"learner": "maml", **warm, "metric": "mae", **interval(0.7), "seeds": [0, 1]},
        ],
        "paired_differences": [
            {
                **warm,
                "learner": "maml",
                "baseline": "base",
                "metric": "mae",
                **beside_zero,
                "verdict": "better",
            }
        ],
        "error_analysis": [
            {
                **warm,
                "learner": "maml",
                "by": "support rows",
                "segment": "0",
                "metric": "mae",
                **interval(0.7, users=3),
            }
        ],
        "cells": cells,
    }


def test_what_is_kept_becomes_the_result_again() -> None:
    whole = result()
    text = to_text(compact(whole))
    again = expand(json.loads(text))
    assert text.count('"width"') == 1  # equal configurations are one
    for table in ("rows", "paired_differences", "error_analysis"):
        assert again[table] == [rounded(record) for record in whole[table]]
    assert again["cells"][0]["training_cpu_minutes"] == 0.333333
    assert again["cells"][3]["chosen"]["cold"]["config"] == {"width": 2}  # the seed is the cell's
    assert benchmark_report(again, {}) == benchmark_report(whole, {}).replace(", seed=1", "")


def rounded(record: dict[str, Any]) -> dict[str, Any]:
    return {n: float(f"{v:.6g}") if isinstance(v, float) else v for n, v in record.items()}


def test_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="format_version is 1"):
        expand({"format_version": 1})


@pytest.mark.parametrize("path", KEPT, ids=lambda p: str(p.relative_to(RESULTS)))
def test_kept_results_are_small_and_whole(path: Path) -> None:
    assert path.stat().st_size < MOST_BYTES
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert compact(expand(kept)) == kept
    report = path.with_suffix(".md").read_text(encoding="utf-8")
    assert kept["command"] in report
    assert not list(path.parent.glob("*.html"))
