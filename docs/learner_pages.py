"""Puts what was measured into the learners' pages: `python -m docs.learner_pages`.

Reads benchmarks/accuracy/results/all-learners/temporal-ml100k.json, as
`make accuracy PROTOCOL=temporal-ml100k LEARNERS=all OUT=benchmarks/accuracy/results/all-learners`
wrote it; draws docs/learners/NAME.png, and replaces what stands between the marks
`<!-- measured -->` and `<!-- end -->` in docs/learners.md and docs/learners/NAME.md.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.accuracy.compact import expand
from benchmarks.accuracy.curves import SHOTS, best_baseline, one_curve
from recmeta.reporting.markdown import table

DOCS = Path(__file__).parent
RESULT = DOCS.parent / "benchmarks/accuracy/results/all-learners/temporal-ml100k.json"
BEGIN, END = "<!-- measured -->", "<!-- end -->"
SHOWN = ("0", "1", "5", "10", "20")
ROUNDED, ORDER = "mae_rounded", "ndcg@5_exponential"
Result = Mapping[str, Any]


def main() -> None:
    """Write pictures and numbers."""
    result = expand(json.loads(RESULT.read_text(encoding="utf-8")))
    replace(DOCS / "learners.md", overview(result))
    for page in sorted((DOCS / "learners").glob("*.md")):
        if page.stem in {cell["learner"] for cell in result["cells"]}:
            page.with_suffix(".png").write_bytes(one_curve(result, "mae", page.stem))
            replace(page, measured(result, page.stem))


def overview(result: Result) -> str:
    """Return the table of all learners and the baselines, the least error at 20 shots first."""
    found = dict.fromkeys(cell["learner"] for cell in result["cells"])
    learners = [name for name in found if value(result, name, "20", "mae") is not None]
    learners.sort(key=lambda name: value(result, name, "20", "mae") or 0.0)
    header = ["learner", *[f"k = {k}" for k in SHOWN], "rounded", "nDCG@5", "minutes", "µs"]
    rows = []
    for name in learners:
        errors = [f"{value(result, name, k, 'mae'):.4f}" for k in SHOWN]
        more = [f"{value(result, name, '20', metric):.4f}" for metric in (ROUNDED, ORDER)]
        shown = name if name in result["baselines"] else f"`{name}`"
        rows.append([shown, *errors, *more, *cost(result, name)])
    return table(header, rows)


def measured(result: Result, name: str) -> str:
    """Return a learner's curve, its numbers beside those of the best baseline, and its cost."""
    best = best_baseline(result, "mae")
    rows = [[one, *[f"{value(result, one, k, 'mae'):.4f}" for k in SHOWN]] for one in (name, best)]
    minutes, microseconds = cost(result, name)
    ends = {one: [value(result, one, k, "mae") for k in ("0", "20")] for one in (name, best)}
    alt = (
        f"Mean absolute error of {name} by number of known ratings, from {ends[name][0]:.3f} with "
        f"none to {ends[name][1]:.3f} with 20; the baseline {best} from {ends[best][0]:.3f} to "
        f"{ends[best][1]:.3f}"
    )
    return "\n\n".join(
        [
            f"![{alt}]({name}.png)",
            table(["MAE", *[f"k = {k}" for k in SHOWN]], rows),
            f"Training: {minutes} CPU minutes. Adapting to a user and predicting: {microseconds} "
            "CPU microseconds.",
        ]
    )


def value(result: Result, learner: str, shots: str, metric: str) -> float | None:
    """Return a mean over the cold users; None where the learner has no such metric."""
    for row in result["rows"]:
        if (row["learner"], row["state"], row["metric"]) == (learner, SHOTS + shots, metric):
            return float(row["mean"])
    return None


def cost(result: Result, learner: str) -> tuple[str, str]:
    """Return CPU minutes of training and CPU microseconds per cold user, means over the seeds."""
    cells = [c for c in result["cells"] if c["learner"] == learner]
    minutes = sum(c["training_cpu_minutes"] for c in cells) / len(cells)
    microseconds = sum(c["adaptation_cpu_us"] for c in cells) / len(cells)
    return f"{minutes:.2f}", f"{microseconds:,.0f}"


def replace(page: Path, text: str) -> None:
    """Put a text between the marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    assert after, f"{page} has no {BEGIN} … {END}"
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
