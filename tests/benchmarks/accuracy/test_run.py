"""A run from cells to JSON: what it holds, and that it goes on where it was killed."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from small_logs import small_log

from benchmarks.accuracy import run as runs
from benchmarks.accuracy.compact import compact, expand, to_text
from benchmarks.accuracy.learners import LEARNERS, Fitted
from benchmarks.accuracy.plots import pictures
from benchmarks.accuracy.problem import Problem
from benchmarks.accuracy.protocols import PROTOCOLS
from benchmarks.accuracy.report import benchmark_report
from benchmarks.accuracy.summary import summarise
from recmeta.errors import UserError
from recmeta.workspace import Folder

COMMAND = "python -m benchmarks.accuracy"
CHEAP = ("global-mean", "popularity", "item-mean-user-bias")
ROW = {"learner", "training", "state", "metric", "mean", "ci_low", "ci_high", "num_users", "seeds"}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every protocol read a small log instead of its data set."""
    for objective in ("rating", "implicit"):
        log = small_log(num_users=120, graded=objective == "rating")
        for name, protocol in PROTOCOLS.items():
            if protocol.objective == objective:
                prepared = dataclasses.replace(protocol, prepare=lambda _, log=log: log)
                monkeypatch.setitem(PROTOCOLS, name, prepared)
    monkeypatch.setattr(runs.datasets, "read", lambda name, data: None)
    biases = LEARNERS["item-mean-user-bias"]  # stands for a learner that is compared
    monkeypatch.setitem(
        LEARNERS, "item-mean-user-bias", dataclasses.replace(biases, is_baseline=False)
    )


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_ends_in_rows_that_say_where_they_come_from(
    name: str, small: None, tmp_path: Path
) -> None:
    suited = [n for n in CHEAP if PROTOCOLS[name].objective in LEARNERS[n].objectives]
    result = runs.run(name, num_seeds=2, learners=suited, out=tmp_path)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert {frozenset(row) for row in result["rows"]} == {frozenset(ROW)}
    assert all(row["seeds"] == [0, 1] for row in result["rows"])
    metrics = {row["metric"] for row in result["rows"]}
    assert metrics == set(PROTOCOLS[name].metrics) or suited == ["popularity"]
    for row in result["rows"]:
        assert row["ci_low"] <= row["mean"] <= row["ci_high"]
    assert "--learners" in result["command"]
    assert result["command"].startswith(f"{COMMAND} {name} --seeds 2")
    assert result["data"]["sha256"] == "small-0"
    assert len(result["cells"]) == 2 * len(suited) * len(PROTOCOLS[name].trainings)
    for cell in result["cells"]:
        assert cell["training_cpu_minutes"] >= 0
        assert cell["adaptation_cpu_us"] > 0
        assert len(cell["code"]) == 16
        assert cell["libraries"]["python"]
    drawn = pictures(result)
    files = {shown: f"{number}.png" for number, shown in enumerate(drawn)}
    report = benchmark_report(result, files)
    assert result["command"] in report
    assert all(f"({file})" in report for file in files.values())
    again = expand(json.loads(to_text(compact(result))))
    assert [(r["learner"], r["state"], r["metric"]) for r in again["rows"]] == [
        (r["learner"], r["state"], r["metric"]) for r in result["rows"]
    ]
    assert again["cells"][0].keys() == result["cells"][0].keys()


def test_a_run_that_was_killed_goes_on(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[str] = []

    def watched(name: str) -> None:
        inner = LEARNERS[name].fit

        def fit(problem: Problem, folder: Folder, seed: int) -> Fitted:
            fits.append(name)
            if name == dying and seed == 1:
                raise KeyboardInterrupt
            return inner(problem, folder, seed)

        monkeypatch.setitem(LEARNERS, name, dataclasses.replace(LEARNERS[name], fit=fit))

    dying = "popularity"
    for name in CHEAP:
        watched(name)

    def run() -> dict[str, object]:
        return runs.run("temporal-ml100k", num_seeds=2, learners=CHEAP, out=tmp_path)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert fits == [*CHEAP, "global-mean", "popularity"]
    fits.clear()
    dying = ""
    resumed = run()
    assert fits == ["popularity", "item-mean-user-bias"]
    fits.clear()
    assert run() == resumed
    assert fits == []
    fresh = runs.run("temporal-ml100k", num_seeds=2, learners=CHEAP, out=tmp_path / "other")
    assert fresh["rows"] == resumed["rows"]
    assert fresh["paired_differences"] == resumed["paired_differences"]


def test_differences_are_paired_and_averaged_over_seeds() -> None:
    rng = np.random.default_rng(0)
    users = [f"u{i}" for i in range(50)]
    hard = rng.normal(1.0, 0.5, 50)  # what makes a user hard for everybody

    def table(values: np.ndarray) -> pa.Table:
        columns = {"user_id": users, "support_rows": np.arange(50) % 3, "mae": values}
        return pa.table({"state": ["user_cold"] * 50, **columns})

    noise = rng.normal(0, 0.02, (2, 50))
    per_user = {
        (name, "filtered", seed): table(hard + shift + noise[seed] * sign)
        for name, shift, sign in (("base", 0.0, 1.0), ("learner", -0.05, -1.0))
        for seed in (0, 1)
    }
    found = summarise(per_user, PROTOCOLS["melu-ml1m"], ["base"])
    (difference,) = found["paired_differences"]
    expected = -0.05 - 2 * noise.mean(axis=0)
    assert difference["mean"] == pytest.approx(expected.mean(), abs=1e-6)
    assert difference["verdict"] == "better"
    by_name = {row["learner"]: row for row in found["rows"]}
    assert by_name["base"]["mean"] == pytest.approx((hard + noise.mean(axis=0)).mean(), abs=1e-6)
    by_segment = {(r["learner"], r["segment"]): r for r in found["error_analysis"]}
    none = by_segment["base", "0"]
    assert none["num_users"] == 17
    assert none["mean"] == pytest.approx((hard + noise.mean(axis=0))[::3].mean(), abs=1e-6)
    # Alone, the learners' intervals overlap: pairing is what tells them apart.
    assert by_name["learner"]["ci_high"] > by_name["base"]["ci_low"]


def test_a_segment_that_only_some_seeds_have_is_averaged_over_those() -> None:
    users = {"state": ["item_cold"] * 2, "user_id": ["a", "b"], "support_rows": [3, 4]}
    segment = {"mae, items with 0": [0.5, 0.7]}
    per_user = {
        ("base", "filtered", 0): pa.table({**users, "mae": [1.0, 1.0]}),
        ("base", "filtered", 1): pa.table({**users, "mae": [1.0, 1.0], **segment}),
    }
    found = summarise(per_user, PROTOCOLS["melu-ml1m"], ["base"])["error_analysis"]
    (row,) = [r for r in found if r["by"] == "training ratings of the item"]
    assert (row["segment"], row["num_users"]) == ("0", 2)
    assert row["mean"] == pytest.approx(0.6)


def test_wrong_names_are_answered_with_the_nearest(small: None, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'melu-ml1m'"):
        runs.run("melu-ml-1m", out=tmp_path)
    with pytest.raises(UserError, match="'ease'"):
        runs.run("melu-ml1m", learners=["eas"], out=tmp_path)
    with pytest.raises(UserError, match="no learner of implicit-lastfm 'item-mean'"):
        runs.run("implicit-lastfm", learners=["item-mean"], out=tmp_path)
    with pytest.raises(UserError, match="seeds is 0"):
        runs.run("melu-ml1m", num_seeds=0, out=tmp_path)


def test_a_library_that_is_absent_is_named_before_anything_is_learned(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = dataclasses.replace(LEARNERS["popularity"], library="no_such_library")
    monkeypatch.setitem(LEARNERS, "popularity", needs)
    with pytest.raises(UserError, match=r"popularity needs .*no_such_library.*recmeta\[accuracy\]"):
        runs.run("melu-ml1m", learners=["global-mean", "popularity"], out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_all_names_every_learner_but_those_that_read_texts(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(LEARNERS):
        if name not in (*CHEAP, "content-ridge-text"):
            monkeypatch.delitem(LEARNERS, name)
    popularity = dataclasses.replace(LEARNERS["popularity"], unasked=False)
    monkeypatch.setitem(LEARNERS, "popularity", popularity)
    result = runs.run("temporal-ml100k", num_seeds=1, learners=["all"], out=tmp_path)
    assert [cell["learner"] for cell in result["cells"]] == list(CHEAP)
    assert result["command"] == f"{COMMAND} temporal-ml100k --seeds 1 --learners all"
