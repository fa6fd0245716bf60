"""Puts what was measured into the learners' pages: `python -m docs.learner_pages`.

Reads benchmarks/accuracy/results/all-learners/temporal-ml100k.json, as
`make accuracy PROTOCOL=temporal-ml100k LEARNERS=all OUT=benchmarks/accuracy/results/all-learners`
wrote it, docs/results/lists-lastfm.json for learners of implicit feedback alone, and
docs/results/few-shot.json; draws docs/learners/NAME.png, and replaces what stands between the marks
`<!-- measured -->` and `<!-- end -->` in docs/learners.md and docs/learners/NAME.md.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.accuracy.compact import expand
from benchmarks.accuracy.curves import SHOTS, best_baseline, one_curve
from benchmarks.accuracy.list_cells import LISTS
from docs.few_shot_tables import sentence_of
from recmeta.reporting.markdown import table

DOCS = Path(__file__).parent
RESULT = DOCS.parent / "benchmarks/accuracy/results/all-learners/temporal-ml100k.json"
OF_LISTS = DOCS / "results/lists-lastfm.json"
BEGIN, END = "<!-- measured -->", "<!-- end -->"
ROUNDED, ORDER = "mae_rounded", "ndcg@5_exponential"
OF_CLICKS = frozenset(["weighted-ridge"])
"""Learners that refuse ratings."""
Result = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Shown:
    """What a page shows of a result."""

    metric: str
    head: str
    """The metric's name in a table."""
    name: str
    """The metric's name in a sentence."""
    known: str
    """What is known of a user."""
    shots: tuple[str, ...]
    """Numbers of known rows."""


RATINGS = Shown("mae", "MAE", "Mean absolute error", "ratings", ("0", "1", "5", "10", "20"))
LISTED = Shown(LISTS, "nDCG@10", "nDCG@10", "artists", ("0", "1", "3", "5", "10", "all"))


def main() -> None:
    """Write pictures and numbers."""
    result = expand(load(RESULT))
    replace(DOCS / "learners.md", overview(result))
    of_lists = as_protocol(load(OF_LISTS))
    for page in pages():
        found, shown = (of_lists, LISTED) if page.stem in OF_CLICKS else (result, RATINGS)
        page.with_suffix(".png").write_bytes(one_curve(found, shown.metric, page.stem))
        replace(page, measured(found, page.stem, shown))


def pages() -> list[Path]:
    """Return the learners' pages."""
    return sorted((DOCS / "learners").glob("*.md"))


def load(path: Path) -> Any:
    """Return a JSON file's content."""
    return json.loads(path.read_text(encoding="utf-8"))


def as_protocol(lists: Result) -> dict[str, Any]:
    """Return a result of lists in the form of a protocol's, whose states are numbers of shots."""
    rows = [{**row, "state": f"{SHOTS}{row['shots']}", "training": "all"} for row in lists["rows"]]
    baselines = {row["learner"] for row in rows} - OF_CLICKS
    return {**lists, "rows": rows, "baselines": sorted(baselines)}


def overview(result: Result) -> str:
    """Return the table of all learners and the baselines, the least error at 20 shots first."""
    found = dict.fromkeys(cell["learner"] for cell in result["cells"])
    learners = [name for name in found if value(result, name, "20", "mae") is not None]
    learners.sort(key=lambda name: value(result, name, "20", "mae") or 0.0)
    header = ["learner", *[f"k = {k}" for k in RATINGS.shots], "rounded", "nDCG@5", "minutes", "µs"]
    rows = []
    for name in learners:
        errors = [f"{value(result, name, k, 'mae'):.4f}" for k in RATINGS.shots]
        more = [f"{value(result, name, '20', metric):.4f}" for metric in (ROUNDED, ORDER)]
        shown = name if name in result["baselines"] else f"`{name}`"
        rows.append([shown, *errors, *more, *cost(result, name)])
    return table(header, rows)


def measured(result: Result, name: str, shown: Shown = RATINGS) -> str:
    """Return a learner's curve, its numbers beside those of the best baseline, and its cost."""
    best = best_baseline(result, shown.metric)
    means = {
        one: [value(result, one, k, shown.metric) or 0.0 for k in shown.shots]
        for one in (name, best)
    }
    ends = {one: f"from {of[0]:.3f} to {of[-1]:.3f}" for one, of in means.items()}
    with_none, _, with_most = ends[name].rpartition(" to ")
    alt = (
        f"{shown.name} of {name} by number of known {shown.known}, {with_none} with none to "
        f"{with_most} with {shown.shots[-1]}; the baseline {best} {ends[best]}"
    )
    rows = [[one, *[f"{mean:.4f}" for mean in of]] for one, of in means.items()]
    parts = [
        f"![{alt}]({name}.png)",
        table([shown.head, *[f"k = {k}" for k in shown.shots]], rows),
        spent(result, name),
        sentence_of(name),
    ]
    return "\n\n".join(part for part in parts if part)


def value(result: Result, learner: str, shots: str, metric: str) -> float | None:
    """Return a mean over the cold users; None where the learner has no such metric."""
    for row in result["rows"]:
        if (row["learner"], row["state"], row["metric"]) == (learner, SHOTS + shots, metric):
            return float(row["mean"])
    return None


def spent(result: Result, learner: str) -> str:
    """Return a sentence or two that say what training and adapting cost."""
    if learner in OF_CLICKS:
        minutes = cpu_minutes(result, learner)
        return f"Training, that of the weights of the lists included: {minutes:.1f} CPU minutes."
    training, microseconds = cost(result, learner)
    return (
        f"Training: {training} CPU minutes. Adapting to a user and predicting: {microseconds} CPU "
        "microseconds."
    )


def cpu_minutes(result: Result, learner: str) -> float:
    """Return the CPU minutes of training, a mean over the seeds."""
    cells = [c["training_cpu_minutes"] for c in result["cells"] if c["learner"] == learner]
    return float(sum(cells) / len(cells))


def cost(result: Result, learner: str) -> tuple[str, str]:
    """Return CPU minutes of training and CPU microseconds per cold user, means over the seeds."""
    cells = [c["adaptation_cpu_us"] for c in result["cells"] if c["learner"] == learner]
    return f"{cpu_minutes(result, learner):.2f}", f"{sum(cells) / len(cells):,.0f}"


def replace(page: Path, text: str) -> None:
    """Put a text between the marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    assert after, f"{page} has no {BEGIN} … {END}"
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
