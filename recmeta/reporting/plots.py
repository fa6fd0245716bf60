"""Plots of an evaluation and of training, as PNG files."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH, HEIGHT = 7.5, 4.5  # inches
DOTS_PER_INCH = 130
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#000000", "#8c8c8c")
"""Of lines side by side: Okabe and Ito's, which people who are colour-blind can distinguish."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def adaptation_curve(curves: Sequence[Mapping[str, Any]]) -> bytes:
    """Return a PNG of metrics by number of support rows, a line per predictor in the same colour in
    each, with the interval of the learned ones; bands of all would cover each other, and tables
    have them. Of curves of the same metric the first is drawn.

    Args:
        curves: `adaptation_curve` and `list_curve` of an evaluation's JSON.
    """
    from matplotlib.figure import Figure

    curves = list({curve["metric"]: curve for curve in reversed(curves)}.values())[::-1]
    figure = Figure(figsize=(WIDTH * (0.4 + 0.6 * len(curves)), HEIGHT), layout="constrained")
    names = list(dict.fromkeys(name for curve in curves for name in curve["points"]))
    learned_first = sorted(
        names, key=lambda name: all(name not in c.get("learned", ()) for c in curves)
    )
    looks = {name: _look(place) for place, name in enumerate(learned_first)}
    for axes, curve in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        places = range(len(curve["shots"]))
        for name, points in curve["points"].items():
            learned = name in curve.get("learned", ())
            axes.plot(
                places,
                _drawn(points, "mean"),
                label=name,
                linewidth=2.6 if learned else 1.2,
                markersize=5,
                zorder=3 if learned else 2,
                **looks[name],
            )
            if learned:
                low, high = _drawn(points, "ci_low"), _drawn(points, "ci_high")
                axes.fill_between(
                    places, low, high, alpha=0.15, color=looks[name]["color"], linewidth=0
                )
        axes.set_xticks(list(places), [str(k) for k in curve["shots"]])
        axes.set_xlabel("known interactions of the cold user (shots)")
        better = "lower" if curve["lower_is_better"] else "higher"
        metric = curve["metric"]
        shown = metric if "@" in metric else metric.upper()
        axes.set_ylabel(f"{shown} ({better} is better)")
        title = f"{curve['num_users']} cold users; the band is the model's interval"
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
    lines = {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}
    shown = [name for name in learned_first if name in lines]
    figure.legend(
        [lines[name] for name in shown],
        shown,
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=8,
    )
    return to_png(figure)


def _look(place: int) -> dict[str, Any]:
    """Return how the line at a place is drawn: no two of 64 are alike, even in grey."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": MARKERS[(place + place // len(COLOURS)) % len(MARKERS)],
        "linestyle": "--" if place // len(COLOURS) % 2 else "-",
    }


def training_curve(history: Sequence[Mapping[str, Any]], dev_loss_name: str) -> bytes:
    """Return a PNG of the training and the development loss by epoch."""
    figure, axes = _figure()
    numbers = [e["number"] for e in history]
    axes.plot(numbers, _drawn(history, "train_loss"), label="training, query loss")
    right = axes.twinx()
    right.plot(numbers, _drawn(history, "dev_loss"), color="tab:orange", label=dev_loss_name)
    measured = [e for e in history if e["dev_loss"] is not None]
    if measured:  # a small log may have no development users
        best = min(measured, key=lambda e: e["dev_loss"])["number"]
        right.axvline(best, color="grey", linestyle=":", label=f"best epoch, {best}")
    axes.set_xlabel("epoch")
    axes.set_ylabel("query loss, in units of the model")
    right.set_ylabel(dev_loss_name)
    lines = [*axes.get_lines(), *right.get_lines()]
    axes.legend(lines, [str(line.get_label()) for line in lines], frameon=False, fontsize=8)
    axes.set_title("Meta-training")
    return to_png(figure)


def calibration(found: Mapping[str, Any]) -> bytes:
    """Return a PNG of how often intervals held, and of the error by standard deviation.

    Args:
        found: `calibration` of an evaluation's JSON.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT * 0.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    levels = [row["level"] for row in found["coverage"]]
    left.plot([0.4, 1], [0.4, 1], color="grey", linestyle=":", label="as it should be")
    left.errorbar(
        levels,
        [row["observed"] for row in found["coverage"]],
        [
            [max(r["observed"] - r.get("ci_low", r["observed"]), 0) for r in found["coverage"]],
            [max(r.get("ci_high", r["observed"]) - r["observed"], 0) for r in found["coverage"]],
        ],
        marker="o",
        capsize=3,
        label="held",
    )
    if any("learners_own" in row for row in found["coverage"]):
        own = [row["learners_own"] for row in found["coverage"]]
        left.plot(levels, own, marker="x", label="own spread, as it is")
    left.set_xlabel("interval")
    left.set_ylabel("share of values within it")
    expected = [b["expected_rmse"] for b in found["bins"]]
    ends = [min(expected), max(expected)]
    right.plot(ends, ends, color="grey", linestyle=":", label="as it should be")
    right.plot(expected, [b["rmse"] for b in found["bins"]], marker="o", label="measured")
    right.set_xlabel("standard deviation that was given")
    right.set_ylabel("RMSE")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(f"Uncertainty on {found['num_users']} cold users")
    return to_png(figure)


def _drawn(points: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """Return the numbers of that name; NaN, which leaves a gap, where there was none to measure."""
    return [math.nan if point[name] is None else point[name] for point in points]


def _figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    return figure, axes


def to_png(figure: Any) -> bytes:
    """Return a figure as PNG; equal figures are equal bytes."""
    stream = io.BytesIO()
    # Without the library's version in the file, equal plots are equal bytes.
    figure.savefig(stream, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return stream.getvalue()
