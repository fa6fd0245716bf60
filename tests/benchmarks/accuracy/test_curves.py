"""Reports of many learners: a panel per family, tables side by side instead of long lists."""

from typing import Any

import pytest

from benchmarks.accuracy.algorithm_families import FAMILY_OF, OTHER, PANELS, family_of
from benchmarks.accuracy.curves import best_baseline, one_curve
from benchmarks.accuracy.plots import pictures
from benchmarks.accuracy.report import benchmark_report
from recmeta.metalearn.registry import LEARNERS

PNG = b"\x89PNG"
BASELINES = ["item-mean", "ease"]


def result(learners: list[str]) -> dict[str, Any]:
    """Return a protocol's JSON in which ease errs least of the baselines and learners less."""
    names = [*BASELINES, *learners]
    mean = {name: 0.82 - 0.01 * place for place, name in enumerate(names)}
    states = [f"shots={k}" for k in (0, 5, 20)]
    common = {"training": "all", "metric": "mae", "num_users": 9}
    spread = {"ci_low": 0.7, "ci_high": 0.9}
    rows = [
        {"learner": n, "state": s, **common, "mean": mean[n], **spread, "seeds": [0]}
        for n in names
        for s in states
    ]
    differences = [
        {
            "learner": n,
            "baseline": b,
            "state": s,
            **common,
            "mean": mean[n] - mean[b],
            "ci_low": -0.5,
            "ci_high": -0.001,
            "verdict": "better",
        }
        for n in learners
        for b in BASELINES
        for s in states
    ]
    cells = [
        {
            "learner": n,
            "training": "all",
            "seed": 0,
            "training_cpu_minutes": 0.25,
            "adaptation_cpu_us": 1234.5,
            "chosen": {},
            "git_commit": "0" * 40,
        }
        for n in names
    ]
    return {
        "title": "Small",
        "rules": "None.",
        "command": "python -m benchmarks.accuracy small",
        "primary_metric": "mae",
        "lower_is_better": True,
        "baselines": BASELINES,
        "rows": rows,
        "paired_differences": differences,
        "published": [],
        "cells": cells,
        "data": {"name": "small", "sha256": "0" * 64, "cite": "Nobody", "verified": {"rows": 1}},
        "code": {"recmeta": "0"},
        "libraries": {},
        "cpus": 1,
    }


def test_every_learner_has_a_family_and_every_family_a_panel() -> None:
    assert {family_of(name) for name in LEARNERS} <= set(FAMILY_OF.values())
    shown = [family for families in PANELS.values() for family in families]
    assert sorted(shown) == sorted({*FAMILY_OF.values(), OTHER})
    assert family_of("my-learner") == OTHER


@pytest.mark.parametrize("num_learners", [1, len(LEARNERS)])
def test_few_and_many_learners_are_drawn(num_learners: int) -> None:
    found = result(list(LEARNERS)[:num_learners])
    assert best_baseline(found, "mae") == "ease"
    drawn = pictures(found)
    assert list(drawn) == ["mae by number of shots", "paired differences in mae"]
    assert all(png.startswith(PNG) for png in drawn.values())
    assert one_curve(found, "mae", "maml").startswith(PNG)


def test_the_report_of_many_sets_differences_side_by_side() -> None:
    names = ["maml", *(name for name in LEARNERS if name != "maml")]
    few, many = result(["maml"]), result([*names, *(f"other-{n}" for n in range(30))])
    listed, side_by_side = (benchmark_report(found, {}) for found in (few, many))
    assert "| maml − ease | all | shots=5 |" in listed
    assert "### shots=5, training: all" in side_by_side
    assert "| maml | **-0.0200** | **-0.0100** |" in side_by_side
    assert "| maml | all | 0.25 | 1,234 |" in side_by_side
