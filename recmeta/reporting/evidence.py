"""What asking is worth: the simulation as Markdown and as a picture."""

from collections.abc import Mapping
from typing import Any

from recmeta.reporting.markdown import table
from recmeta.reporting.plots import to_png

COLOURS = {
    "random": "#9aa0a6",
    "popularity": "#5f6368",
    "known-items": "#b9770e",
    "gradient-norm": "#7d3c98",
    "greedy-loss": "#2a9d8f",
    "information-gain": "#c8553d",
    "adaptive-loss": "#2a6f97",
}
CONTROLS = ("random", "popularity")


def report(found: Mapping[str, Any]) -> str:
    """Return the simulation as Markdown: error and answers by questions, difference to popularity.

    Args:
        found: simulation.json.
    """
    points = found["questions"]
    strategies = found["strategies"]
    level = f"{found['confidence']:.0%}"
    header = ["", *[f"{n} asked" for n in points]]

    def by_questions(metric: str, digits: int) -> str:
        rows = [
            [_name(name, found), *[_number(p["mean"], digits) for p in s["by_questions"][metric]]]
            for name, s in strategies.items()
        ]
        return table(header, rows)

    differences = [
        [_name(name, found), *[_interval(p) for p in s["mae_less_popularity"][1:]]]
        for name, s in strategies.items()
        if name != "popularity"
    ]
    answers = [
        [_name(name, found), *[_with_users(p) for p in s["by_answers"]]]
        for name, s in strategies.items()
    ]
    return (
        "\n\n".join(
            [
                "# What asking is worth",
                f"{found['num_users']} cold test users, model `{found['model']}`. They answer only "
                "about items that they rated. In bold the strategy that was best on development "
                "users.",
                "## MAE by number of questions asked",
                by_questions("mae", 4),
                "## MAE less that of asking about popular items",
                f"Paired over users, with the {level} bootstrap interval; below 0 is better.",
                table(header[:1] + header[2:], differences),
                f"## nDCG@{found['ndcg_k']} by number of questions asked",
                by_questions("ndcg", 4),
                "## Answers by number of questions asked",
                by_questions("answers", 2),
                "## MAE by number of answers",
                "Over the users who gave that many, in brackets how many they are: columns are of "
                "different users.",
                table(["", *[f"{n} answers" for n in found["answers"]]], answers),
            ]
        )
        + "\n"
    )


def plot(found: Mapping[str, Any]) -> bytes:
    """Return a PNG: error by questions asked, and how many of them were answered.

    Args:
        found: simulation.json.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for name, strategy in found["strategies"].items():
        style = {
            "color": COLOURS.get(name),
            "linestyle": "--" if name in CONTROLS else "-",
            "linewidth": 2.6 if name == found["recommended"] else 1.5,
            "label": f"{name} (chosen)" if name == found["recommended"] else name,
        }
        for axes, metric in ((left, "mae"), (right, "answers")):
            means = [p["mean"] for p in strategy["by_questions"][metric]]
            axes.plot(found["questions"], means, marker="o", markersize=3.5, **style)
    left.set_title(f"Error on what {found['num_users']} cold users rated", fontsize=10)
    left.set_ylabel("MAE (lower is better)")
    right.set_title("Answers: a user knows only some items", fontsize=10)
    right.set_ylabel("answers, mean over users")
    for axes in (left, right):
        axes.set_xlabel("questions asked")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
    left.legend(frameon=False, fontsize=8)
    return to_png(figure)


def _name(name: str, found: Mapping[str, Any]) -> str:
    return f"**{name}**" if name == found["recommended"] else name


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _interval(found: Mapping[str, Any]) -> str:
    if found["mean"] is None:
        return "–"
    low, high = (_number(found[name], 4) for name in ("ci_low", "ci_high"))
    return f"{found['mean']:+.4f} [{low}, {high}]"


def _with_users(found: Mapping[str, Any]) -> str:
    return f"{_number(found['mean'], 4)} ({found['num_users']})"
