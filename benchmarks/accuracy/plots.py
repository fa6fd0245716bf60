"""Pictures of a protocol: means with intervals or adaptation curves, and paired differences."""

from collections.abc import Mapping
from typing import Any

from benchmarks.accuracy.curves import SHOTS, adaptation_curves, best_baseline
from benchmarks.accuracy.report import distinct, rows_of
from recmeta.reporting.plots import to_png

WIDTH, ROW, HEAD = 4.2, 0.26, 1.3  # inches: a panel's width, a learner's row, title and axis
LEFT_OUT = "global-mean"  # too far off for the scale of the others; the tables have it
MOST_PAIRS = 40
"""The most rows of a panel of differences; if there are more, only the best baseline is shown."""
COLOURS = {"filtered": "tab:blue", "all": "tab:orange"}


def pictures(result: Mapping[str, Any]) -> dict[str, bytes]:
    """Return PNG files by what they show. `global-mean` is only in the tables."""
    result = {
        **result,
        "rows": [r for r in result["rows"] if r["learner"] != LEFT_OUT] or result["rows"],
        "paired_differences": [
            d for d in result["paired_differences"] if d["baseline"] != LEFT_OUT
        ],
    }
    metric = result["primary_metric"]
    states = distinct(rows_of(result, metric=metric), "state")
    if all(state.startswith(SHOTS) for state in states):
        found = {f"{metric} by number of shots": adaptation_curves(result, metric)}
    else:
        found = {f"{metric} with 95 % intervals": _intervals(result, metric)}
    if any(d["metric"] == metric for d in result["paired_differences"]):
        found[f"paired differences in {metric}"] = _differences(result, metric)
    return found


def _intervals(result: Mapping[str, Any], metric: str) -> bytes:
    rows = rows_of(result, metric=metric)
    states, learners = distinct(rows, "state"), distinct(rows, "learner")
    figure, panels = _panels(len(states), len(learners))
    trainings = distinct(rows, "training")
    for axes, state in zip(panels, states, strict=True):
        for shift, training in enumerate(trainings):
            _points(
                axes,
                [
                    (learners.index(r["learner"]) + 0.22 * (shift - (len(trainings) - 1) / 2), r)
                    for r in rows_of(result, metric=metric, state=state, training=training)
                ],
                COLOURS.get(training, "tab:blue"),
                f"training: {training}",
            )
        for quoted in result["published"]:
            if (quoted["state"], quoted["metric"]) == (state, metric):
                axes.axvline(
                    quoted["value"],
                    color="grey",
                    linestyle=":",
                    label=f"{quoted['learner']}, published",
                )
        axes.set_title(state, fontsize=10)
        axes.set_xlabel(metric)
    _name_rows(panels, learners)
    _legend(figure, panels[0])
    return to_png(figure)


def _differences(result: Mapping[str, Any], metric: str) -> bytes:
    found = [d for d in result["paired_differences"] if d["metric"] == metric]
    states = distinct(found, "state")
    if len({(d["learner"], d["baseline"]) for d in found}) > MOST_PAIRS:
        best = best_baseline(result, metric)
        found = [d for d in found if d["baseline"] == best]
    names = list(dict.fromkeys(f"{d['learner']} − {d['baseline']}" for d in found))
    figure, panels = _panels(len(states), len(names))
    trainings = distinct(found, "training")
    for axes, state in zip(panels, states, strict=True):
        for shift, training in enumerate(trainings):
            of = [d for d in found if (d["state"], d["training"]) == (state, training)]
            places = [names.index(f"{d['learner']} − {d['baseline']}") for d in of]
            offset = 0.22 * (shift - (len(trainings) - 1) / 2)
            _points(
                axes,
                [(place + offset, d) for place, d in zip(places, of, strict=True)],
                COLOURS.get(training, "tab:blue"),
                f"training: {training}",
            )
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_title(state, fontsize=10)
        better = "left" if result["lower_is_better"] else "right"
        axes.set_xlabel(f"difference in {metric}; {better} of 0: the learner is better", fontsize=8)
    _name_rows(panels, names)
    _legend(figure, panels[0])
    return to_png(figure)


def _panels(num_panels: int, num_rows: int) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(WIDTH * min(num_panels, 4) + 1.5, (HEAD + ROW * num_rows) * -(-num_panels // 4)),
        layout="constrained",
    )
    grid = figure.subplots(-(-num_panels // 4), min(num_panels, 4), squeeze=False, sharey=True)
    panels = list(grid.ravel())
    for spare in panels[num_panels:]:
        spare.set_visible(False)
    return figure, panels[:num_panels]


def _points(
    axes: Any, places: list[tuple[float, Mapping[str, Any]]], colour: str, name: str
) -> None:
    known = [(place, r) for place, r in places if r["mean"] is not None]
    mean = [r["mean"] for _, r in known]
    spread = [
        [r["mean"] - r["ci_low"] for _, r in known],
        [r["ci_high"] - r["mean"] for _, r in known],
    ]
    axes.errorbar(
        mean, [p for p, _ in known], xerr=spread, fmt="o", markersize=3.5, color=colour, label=name
    )


def _name_rows(panels: list[Any], names: list[str]) -> None:
    for axes in panels:
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.locator_params(axis="x", nbins=5)
        axes.tick_params(axis="x", labelsize=8)
        axes.grid(axis="x", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()  # shared


def _legend(figure: Any, axes: Any) -> None:
    lines, names = axes.get_legend_handles_labels()
    figure.legend(lines, names, frameon=False, fontsize=8, loc="outside lower center", ncols=3)
