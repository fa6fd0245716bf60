"""What a log of a size is to take: the lines, and the command."""

import json
import os
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recmeta.capacity import kept, measure
from recmeta.capacity.shipped import SHIPPED
from recmeta.capacity.slopes import (
    OF_DATA,
    STEPS,
    Line,
    Machines,
    Run,
    Size,
    driver,
    fit_all,
    predict,
    total,
)
from recmeta.cli.app import build
from recmeta.config import parse, to_dict
from recmeta.errors import UserError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def size(rows: float) -> Size:
    return Size(rows=rows, users=rows / 40, items=500, scored=rows / 8)


def run_of(rows: float, step: str) -> Run:
    """Return a run of a machine that does exactly what the lines say."""
    per_unit = driver(step, size(rows))  # type: ignore[arg-type]
    return Run(
        size=size(rows),
        cpu_seconds=2 + 1e-5 * per_unit,
        memory_bytes=3e8 + 20 * rows,
        disk_bytes=8 * (size(rows).scored if step == "score" else per_unit),
    )


def test_a_line_through_exact_runs_predicts_any_size() -> None:
    runs = {step: [run_of(rows, step) for rows in (1e4, 3e4, 9e4)] for step in STEPS}
    large = {step: runs[step] for step in (*OF_DATA, "meta-train")}
    slopes = fit_all("this one", "today", runs, large)
    assert {step.largest_rows for step in slopes.steps.values()} == {9e4}
    one = predict(slopes, size(1e9), Machines())
    many = predict(slopes, size(1e9), Machines(workers=3, machines=4, price_per_hour=2))
    for step, alone, shared in zip(STEPS, one, many, strict=True):
        expected = run_of(1e9, step)
        assert alone.cpu_hours == pytest.approx(expected.cpu_seconds / 3600)
        memory = pytest.approx(expected.memory_bytes / 1e9) if step in large else None
        if step == "ingest":
            memory = 2 * 1.024**3  # the budget, which does not grow with the log
        assert alone.memory_gb == memory
        assert alone.disk_gb == pytest.approx(expected.disk_bytes / 1e9)
        assert (alone.hours, alone.cost) == (alone.cpu_hours, 0)
        times = {"meta-train": 1 + 2 * 0.65, "score": 12}.get(step, 1)
        assert shared.hours == pytest.approx(alone.hours / times)
        assert shared.cost == pytest.approx(2 * shared.hours * (4 if step == "score" else 1))
    assert total(many).cost == pytest.approx(sum(step.cost for step in many))
    assert total(many).memory_gb == pytest.approx(20.3)


def test_an_evaluation_draws_users_of_a_large_log() -> None:
    assert driver("evaluate", size(1e6)) == 1e6
    assert driver("evaluate", size(1e8)) == driver("evaluate", size(1e9)) == 2**24


@pytest.mark.parametrize(
    ("quantity", "line"),
    [
        ([5.0, 4.0], Line(fixed=4.5, each=0.0)),  # no step takes less of more
        ([1.0, 4.0], Line(fixed=0.0, each=(1 + 8) / 5)),  # nor less than nothing of nothing
        ([3.0, 4.0], Line(fixed=2.0, each=1.0)),
    ],
)
def test_lines_are_never_negative(quantity: list[float], line: Line) -> None:
    found = Line.through([1.0, 2.0], quantity)
    assert (found.fixed, found.each) == pytest.approx((line.fixed, line.each))


def test_what_was_measured_here_wins_over_what_is_shipped(own_cache: Path) -> None:
    assert to_dict(kept.slopes()) == SHIPPED
    runs = {step: [run_of(rows, step) for rows in (1e4, 9e4)] for step in STEPS}
    here = fit_all("here", "today", runs, {})
    assert kept.keep(here) == own_cache / "recmeta" / "slopes.json"
    assert kept.slopes() == here
    without_a_step = {**SHIPPED, "steps": {}}
    for broken in ("{", "[]", "null", json.dumps(without_a_step)):
        kept.place().write_text(broken, encoding="utf-8")
        with pytest.raises(UserError, match="plan --measure` again"):
            kept.slopes()


def test_a_measurement_whose_process_is_killed_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_run", _die)
    with pytest.raises(UserError, match="the process of ingest was killed"):
        measure._in_a_process(measure._ingest, "/nowhere")


def _die(*_: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_command_prints_a_table_and_json() -> None:
    asked = ["plan", "--rows", "1e8", "--users", "2e6", "--price-per-hour", "1"]
    shown = CliRunner().invoke(build(), [*asked, "--json"])
    assert shown.exit_code == 0, shown.output
    data = json.loads(shown.stdout.splitlines()[-1])
    assert [step["step"] for step in data["steps"]] == list(STEPS)
    assert data["size"] == {"rows": 1e8, "users": 2e6, "items": 1e5, "scored": 2e6}
    assert data["total"]["hours"] == pytest.approx(sum(s["hours"] for s in data["steps"]))
    table = CliRunner().invoke(build(), asked).stdout.splitlines()
    assert [line.split("|")[1].strip() for line in table[2:8]] == [*STEPS, "all"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "say how large the log is"),
        (["--rows", "0"], "rows is 0"),
        (["--rows", "nan"], "rows is nan"),
        (["--rows", "10", "--users", "11"], "a user has at least one row"),
    ],
)
def test_sizes_of_no_log_are_refused(options: list[str], said: str) -> None:
    shown = CliRunner().invoke(build(), ["plan", *options])
    assert shown.exit_code == 2
    assert said in shown.stderr


def test_what_is_shipped_is_whole() -> None:
    slopes = parse(type(kept.slopes()), SHIPPED)
    assert set(slopes.steps) == set(STEPS)
    assert slopes.machine
    assert slopes.measured_on
