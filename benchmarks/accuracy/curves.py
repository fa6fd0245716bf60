"""Adaptation curves: the error by the number of known rows of the cold user.

If few learners compete, all are in one picture; if many do, each family has a panel, in which the
others are grey. Only a picture of a single learner has intervals: users differ more from one
another than learners do, and the paired differences have a picture of their own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.accuracy.algorithm_families import PANELS, family_of
from benchmarks.accuracy.direction import is_error
from benchmarks.accuracy.report import distinct, rows_of
from recmeta.reporting.plots import to_png

SHOTS = "shots="
MOST_TOGETHER = 4
"""The most learners, besides the baselines, that one picture can distinguish."""
LEARNED = ("black", "tab:red", "tab:blue", "tab:green")
GREY = "0.82"
Row = Mapping[str, Any]


def adaptation_curves(result: Mapping[str, Any], metric: str) -> bytes:
    """Return a PNG with the curves of all learners."""
    rows = rows_of(result, metric=metric)
    learned = [name for name in distinct(rows, "learner") if name not in result["baselines"]]
    if len(learned) <= MOST_TOGETHER:
        return _together(result, rows, learned, metric)
    return _by_family(result, rows, learned, metric)


def one_curve(result: Mapping[str, Any], metric: str, learner: str) -> bytes:
    """Return a small PNG: one learner with its 95 % interval, the best baseline, all others grey.

    Args:
        result: a protocol's JSON whose states are numbers of shots.
    """
    from matplotlib.figure import Figure

    rows = rows_of(result, metric=metric)
    figure = Figure(figsize=(4.6, 2.7), layout="constrained")
    axes = figure.subplots()
    _others(axes, rows, result["baselines"])
    best = best_baseline(result, metric)
    _line(axes, rows, best, color="black", linestyle="--", linewidth=1.2, label=best)
    _line(axes, rows, learner, color="tab:red", marker="o", markersize=3.5, label=learner)
    own = _points(rows, learner)
    axes.fill_between(
        range(len(own)),
        [r["ci_low"] for r in own],
        [r["ci_high"] for r in own],
        color="tab:red",
        alpha=0.12,
        linewidth=0,
    )
    _dress(axes, rows, metric)
    free = "upper right" if is_error(metric) else "upper left"
    axes.legend(frameon=False, fontsize=7, loc=free)
    return to_png(figure)


def best_baseline(result: Mapping[str, Any], metric: str) -> str:
    """Return the baseline with the best mean over all numbers of shots."""
    rows = rows_of(result, metric=metric)
    mean = {
        name: sum(r["mean"] for r in _points(rows, name)) / len(_points(rows, name))
        for name in distinct(rows, "learner")
        if name in result["baselines"]
    }
    return (min if is_error(metric) else max)(mean, key=lambda name: mean[name])


def _together(
    result: Mapping[str, Any], rows: Sequence[Row], learned: Sequence[str], metric: str
) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 5.2), layout="constrained")
    axes = figure.subplots()
    for number, name in enumerate(distinct(rows, "learner")):
        if name in learned:
            colour = LEARNED[learned.index(name)]
            _line(axes, rows, name, color=colour, marker="o", linewidth=2.6, label=name)
        else:
            _line(axes, rows, name, color=f"C{number % 10}", marker="s", linestyle="--", label=name)
    _dress(axes, rows, metric)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return to_png(figure)


def _by_family(
    result: Mapping[str, Any], rows: Sequence[Row], learned: Sequence[str], metric: str
) -> bytes:
    from matplotlib.figure import Figure

    members = {
        title: [name for name in learned if family_of(name) in families]
        for title, families in PANELS.items()
    }
    members = {"baselines": list(result["baselines"])} | {t: m for t, m in members.items() if m}
    rows = [r for r in rows if r["learner"] in {*learned, *result["baselines"]}]
    best = best_baseline(result, metric)
    num_rows = -(-len(members) // 2)
    figure = Figure(figsize=(10.5, 3.3 * num_rows), layout="constrained")
    grid = figure.subplots(num_rows, 2, squeeze=False, sharey=True)
    panels = list(grid.ravel())
    for spare in panels[len(members) :]:
        spare.set_visible(False)
    for axes, (title, names) in zip(panels, members.items(), strict=False):
        _others(axes, rows, result["baselines"])
        if best not in names:
            _line(axes, rows, best, color="black", linestyle="--", linewidth=1.2, label=best)
        present = [name for name in names if _points(rows, name)]
        for number, name in enumerate(present):
            marker = "os^Dv<>P"[number % 8]
            _line(axes, rows, name, color=f"C{number % 10}", marker=marker, label=name)
        _dress(axes, rows, metric)
        axes.set_title(title, fontsize=10, loc="left")
        axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return to_png(figure)


def _points(rows: Sequence[Row], learner: str) -> list[Row]:
    """Return a learner's rows, in the order of the shots."""
    by_state = {r["state"]: r for r in rows if r["learner"] == learner}
    return [by_state[state] for state in distinct(rows, "state") if state in by_state]


def _line(axes: Any, rows: Sequence[Row], learner: str, **style: Any) -> None:
    values = [r["mean"] for r in _points(rows, learner)]
    axes.plot(range(len(values)), values, **{"linewidth": 1.7, "markersize": 4, **style})


def _others(axes: Any, rows: Sequence[Row], baselines: Sequence[str]) -> None:
    """Draw every meta-learner in grey, for the eye to compare with."""
    for name in distinct(rows, "learner"):
        if name not in baselines:
            _line(axes, rows, name, color=GREY, linewidth=0.8)


def _dress(axes: Any, rows: Sequence[Row], metric: str) -> None:
    shots = [state.removeprefix(SHOTS) for state in distinct(rows, "state")]
    axes.set_xticks(range(len(shots)), shots)
    axes.set_xlabel("interactions known of the cold user (shots)", fontsize=8)
    axes.set_ylabel(f"{metric} ({'lower' if is_error(metric) else 'higher'} is better)", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
