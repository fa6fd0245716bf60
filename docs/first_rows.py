"""Tables and the picture of lists from the first rows of a log, out of results/first-rows.json."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recmeta.reporting.markdown import table
from recmeta.reporting.plots import to_png

DOCS = Path(__file__).parent
RESULT = DOCS / "results/first-rows.json"
PICTURE = DOCS / "images/first-rows.png"
TITLES = {"ml-100k": "MovieLens 100K", "lastfm-hetrec": "Last.FM (HetRec 2011)"}
SHOWN = (0, 5, 10)
"""Numbers of known rows that the tables show."""
DRAWN = 10
"""The number that the picture shows."""
COLOURS = {
    "prior-fitted": "tab:red",
    "maml": "tab:blue",
    "ease": "black",
    "item-knn": "tab:green",
    "popularity": "0.6",
}
Result = Mapping[str, Any]


def lists_table(dataset: str) -> Callable[[], str]:
    """Return what makes a data set's table: nDCG@10 by first rows and known rows, and how far the
    prior is ahead of the best of the others."""

    def made() -> str:
        found = json.loads(RESULT.read_text(encoding="utf-8"))
        own = [row for row in found["rows"] if row["dataset"] == dataset]
        sizes = list(dict.fromkeys(row["rows"] for row in own))
        mean = {(r["learner"], r["rows"], r["shots"]): r["mean"] for r in own}
        cells = []
        for shots in SHOWN:
            for learner in dict.fromkeys(row["learner"] for row in own):
                numbers = [_shown(mean.get((learner, size, shots))) for size in sizes]
                cells.append([str(shots), f"`{learner}`", *numbers])
            ahead = [_ahead(found, dataset, size, shots) for size in sizes]
            cells.append([str(shots), "prior minus the best other", *ahead])
        return table(["known rows", "nDCG@10 after", *(f"{n:,}" for n in sizes)], cells)

    return made


def _shown(mean: float | None) -> str:
    return "-" if mean is None else f"{mean:.4f}"


def _ahead(found: Result, dataset: str, size: int, shots: int) -> str:
    """Return the difference to the best of the others, bold where its interval leaves out zero."""
    where = {"dataset": dataset, "rows": size, "shots": shots}
    some = [r for r in found["differences"] if all(r[k] == v for k, v in where.items())]
    least = min(some, key=lambda r: r["mean"])
    text = f"{least['mean']:+.4f} [{least['ci_low']:+.4f}, {least['ci_high']:+.4f}]"
    shown = text if least["verdict"] == "tie" else f"**{text}**"
    return f"{shown} ({least['minus']})"


def costs_table() -> str:
    """Return CPU seconds of fitting, by data set and number of first rows."""
    found = json.loads(RESULT.read_text(encoding="utf-8"))
    places = list(dict.fromkeys((c["dataset"], c["rows"]) for c in found["costs"]))
    seconds = {
        (c["learner"], c["dataset"], c["rows"]): c["fit_cpu_seconds"] for c in found["costs"]
    }
    learners = dict.fromkeys(c["learner"] for c in found["costs"])
    cells = [
        [f"`{name}`", *(_seconds(seconds.get((name, *place))) for place in places)]
        for name in learners
    ]
    heads = [f"{TITLES[name]}, {size:,}" for name, size in places]
    return table(["CPU seconds to fit", *heads], cells)


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f}"


def picture() -> bytes:
    """Return a PNG: nDCG@10 by the number of first rows, a panel per data set, with the prior's
    interval."""
    from matplotlib.figure import Figure

    found = json.loads(RESULT.read_text(encoding="utf-8"))
    names = [name for name in TITLES if any(r["dataset"] == name for r in found["rows"])]
    figure = Figure(figsize=(4.6 * len(names), 3.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        own = [r for r in found["rows"] if r["dataset"] == name and r["shots"] == DRAWN]
        for learner, colour in COLOURS.items():
            points = [r for r in own if r["learner"] == learner]
            sizes = [r["rows"] for r in points]
            style = "-" if learner in ("prior-fitted", "maml") else "--"
            means = [r["mean"] for r in points]
            axes.plot(sizes, means, style, color=colour, marker="o", markersize=3.5, label=learner)
            if learner == "prior-fitted":
                low, high = ([r[bound] for r in points] for bound in ("ci_low", "ci_high"))
                axes.fill_between(sizes, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.set_xscale("log")
        axes.set_xlabel("first rows of the log", fontsize=8)
        axes.set_ylabel(f"nDCG@10, {DRAWN} known rows (higher is better)", fontsize=8)
        axes.set_title(TITLES[name], fontsize=10, loc="left")
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
        axes.legend(frameon=False, fontsize=7, loc="upper left")
    return to_png(figure)
