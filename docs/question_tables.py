"""Tables of what asking a new user is worth, out of results/asking-policy.json."""

import json
from collections.abc import Callable
from pathlib import Path

from recmeta.reporting.markdown import table

RESULT = Path(__file__).parent / "results/asking-policy.json"
REFERENCE = "information-gain"
"""The strategy that others are compared with."""


def by_questions(metric: str) -> Callable[[], str]:
    """Return what makes the table of a metric: means by strategy and number of questions, marked
    where the paired difference to the reference leaves out zero."""

    def made() -> str:
        found = json.loads(RESULT.read_text(encoding="utf-8"))
        rows = [row for row in found["rows"] if row["metric"] == metric]
        points = list(dict.fromkeys(row["questions"] for row in rows))
        mean = {(row["strategy"], row["questions"]): row["mean"] for row in rows}
        marks = {
            (row["strategy"], row["questions"]): _mark(row["ci_low"], row["ci_high"])
            for row in found["differences"]
            if row["metric"] == metric
        }
        cells = [
            [f"`{name}`", *(f"{mean[name, n]:.4f}{marks.get((name, n), '')}" for n in points)]
            for name in dict.fromkeys(row["strategy"] for row in rows)
        ]
        return table(["after questions", *map(str, points)], cells)

    return made


def _mark(low: float, high: float) -> str:
    """Return how a difference is marked."""
    if low > 0:
        return " ▲"
    return " ▼" if high < 0 else ""
