"""The table and sentences of few-shot classification, out of results/few-shot.json."""

import json
from pathlib import Path
from typing import Any

from benchmarks.few_shot import report

RESULT = Path(__file__).parent / "results/few-shot.json"


def accuracies() -> str:
    """Return the accuracies in N-way K-shot classification, and what they are means over."""
    found = _read()
    return f"{report.accuracy_table(found['rows'])}\n\n{found['rules']} Seeds: {found['seeds']}."


def sentence_of(learner: str) -> str:
    """Return one sentence with a learner's accuracies beside the baseline's; empty if it has
    none."""
    rows = _read()["rows"]
    shown = {(row["learner"], row["problem"]): row["accuracy"] for row in rows}
    own = {problem: of for (name, problem), of in shown.items() if name == learner}
    if not own:
        return ""
    parts = [
        f"{problem} {100 * of['mean']:.1f} % "
        f"[{100 * of['ci_low']:.1f}, {100 * of['ci_high']:.1f}] "
        f"({report.NEAREST}: {100 * shown[report.NEAREST, problem]['mean']:.1f} %)"
        for problem, of in own.items()
    ]
    return f"[Handwritten digits of new classes](../learners.md#toy-families): {', '.join(parts)}."


def _read() -> Any:
    return json.loads(RESULT.read_text(encoding="utf-8"))
