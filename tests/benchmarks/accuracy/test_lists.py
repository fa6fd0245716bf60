"""The protocols of lists: what a run leaves, that it is what the library says, that it goes on."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

import recmeta
from benchmarks.accuracy import list_cells, lists
from benchmarks.accuracy.__main__ import SHOWN_RESULTS, main
from benchmarks.accuracy.datasets import Frames
from recmeta.evaluation.evaluate import EvaluationConfig
from recmeta.recipes.configuration import pipeline_config
from recmeta.testing.synthetic import SyntheticConfig, generate

LEARNERS = ("maml", "popularity", "item-knn")
EPOCHS = 2
RESULTS = sorted(SHOWN_RESULTS.glob("lists-*.json"))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Frames:
    """A small log of ratings, which stands for a data set."""
    made = generate(SyntheticConfig(num_users=100, num_items=30, rows_per_user=(8, 20)), seed=0)
    users, items, events = (
        pl.DataFrame(pl.from_arrow(t)) for t in (made.users, made.items, made.interactions)
    )
    stars = pl.col("value").round().clip(1, 5)
    rows = events.select(
        "user_id", "item_id", stars, pl.col("timestamp").dt.epoch("s").alias("time")
    )
    frames = Frames(file_rows=len(rows), rows=rows, users=users, items=items)
    about = {"name": "small", "sha256": "0"}
    monkeypatch.setattr(lists.datasets, "frames", lambda name, folder: (frames, about))
    short = functools.partial(pipeline_config, epochs=EPOCHS)
    monkeypatch.setattr(list_cells, "pipeline_config", short)
    return frames


def number(found: dict[str, Any], table: str, **wanted: Any) -> dict[str, Any]:
    """Return the one row of a table whose fields have these values."""
    (row,) = (r for r in found[table] if all(r[name] == v for name, v in wanted.items()))
    return dict(row)


def command(out: Path, learners: tuple[str, ...], num_seeds: int) -> list[str]:
    options = ["--learners", ",".join(learners), "--seeds", str(num_seeds), "--json"]
    return ["lists-ml100k", "--out", str(out), *options]


def test_a_run_says_what_the_library_says(
    log: Frames, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tmp_path, LEARNERS, 1)) == 0
    found = json.loads((tmp_path / "lists-ml100k.json").read_text())
    printed = json.loads(capsys.readouterr().out)
    assert printed["rows"] == [r for r in found["rows"] if r["metric"] == lists.LISTS]

    data = recmeta.Dataset.from_frame(
        log.rows, users=log.users, items=log.items, timestamp="time", scale=(1, 5)
    )
    model = recmeta.fit(data, seed=0, epochs=EPOCHS, progress=False)
    how = EvaluationConfig(shots=(0,), num_negatives=0, num_resamples=1)
    said = recmeta.evaluate(model, data, baselines=LEARNERS[1:], config=how, progress=False).metrics
    for learner, metrics in said.items():
        for name in (lists.LISTS, lists.COVERAGE, "mae", "rmse"):
            if name in metrics:
                row = number(found, "rows", learner=learner, metric=name, shots="all")
                assert row["mean"] == pytest.approx(metrics[name], abs=1e-6)

    popular = [
        number(found, "rows", learner="popularity", metric=lists.LISTS, shots=k)["mean"]
        for k in (0, 3, "all")
    ]
    assert popular == [popular[0]] * 3  # it reads no answers
    gained = number(found, "differences", minus="popularity at 0 shots", metric=lists.LISTS)
    assert (gained["mean"], gained["verdict"]) == (0.0, "tie")
    default, other = (
        number(found, "rows", learner=n, metric=lists.LISTS, shots=5)["mean"] for n in LEARNERS[:2]
    )
    one = number(found, "differences", minus="popularity", metric=lists.LISTS, shots=5)
    assert one["mean"] == pytest.approx(default - other, abs=2e-6)
    assert one["ci_low"] <= one["mean"] <= one["ci_high"]
    assert set(found["cells"][0]["head"]["weights"]) == {"0", "1", "3", "10", "30"}
    assert "popularity" in lists.report(found)


def test_users_are_averaged_over_seeds_and_a_run_goes_on(log: Frames, tmp_path: Path) -> None:
    assert main(command(tmp_path, LEARNERS[1:2], 1)) == 0
    first = {path: path.stat().st_mtime_ns for path in tmp_path.glob("work/*/*/cell.json")}
    assert main(command(tmp_path, LEARNERS[1:2], 2)) == 0
    assert first.items() <= {p: p.stat().st_mtime_ns for p in first}.items()

    found = json.loads((tmp_path / "lists-ml100k.json").read_text())
    tables = [pl.from_arrow(pq.read_table(p)) for p in tmp_path.glob("work/*/*/per_user.parquet")]
    assert len(tables) == 2
    of_all = pl.DataFrame(pl.concat(tables)).filter(
        pl.col("state") == "5", pl.col(lists.LISTS).is_not_nan()
    )
    mean = of_all.group_by("user_id").agg(pl.col(lists.LISTS).mean())[lists.LISTS].mean()
    row = number(found, "rows", metric=lists.LISTS, shots=5)
    assert row["mean"] == pytest.approx(mean, abs=1e-6)
    assert row["num_users"] == of_all["user_id"].n_unique()
    assert np.isnan([row["ci_low"], row["ci_high"]]).sum() == 0


def test_the_documentation_shows_the_results() -> None:
    found = [json.loads(path.read_text()) for path in RESULTS]
    assert lists.overview(found) in lists.PAGE.read_text()
