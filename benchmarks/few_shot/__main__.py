"""`python -m benchmarks.few_shot`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.command import Found, show

RESULT = Path(__file__).parents[2] / "docs/results/few-shot.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 2 for a user's mistake, 130 if interrupted."""
    asked = parser().parse_args(arguments)
    return show(lambda: _found(asked), as_json=asked.json)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.few_shot",
        description="Measure N-way K-shot classification of handwritten digits, and write "
        "docs/results/few-shot.json.",
    )
    found.add_argument("--learners", metavar="NAMES", help="separated by commas (default: four)")
    found.add_argument("--seeds", type=int, default=5, metavar="N", help="0, 1, … (default: 5)")
    found.add_argument("--out", type=Path, default=RESULT, metavar="FILE.json")
    found.add_argument("--json", action="store_true", help="print one JSON object")
    return found


def _found(asked: argparse.Namespace) -> Found:
    from benchmarks.accuracy.lists import to_text
    from benchmarks.few_shot import report
    from recmeta.errors import UserError, did_you_mean
    from recmeta.metalearn.registry import LEARNERS
    from recmeta.workspace import Folder

    names = asked.learners.split(",") if asked.learners else report.LEARNERS
    for name in names:
        if name not in LEARNERS:
            raise UserError(
                f"there is no learner {name!r}.{did_you_mean(name, list(LEARNERS))} "
                f"There are: {', '.join(LEARNERS)}."
            )
    if asked.seeds < 1:
        raise UserError(f"seeds is {asked.seeds}; it must be at least 1.")
    work = Folder.at(asked.out.parent) / "work" / "few-shot"
    data, text = report.run(names, asked.seeds, work)
    asked.out.write_text(to_text(data), encoding="utf-8")
    return data, text


if __name__ == "__main__":
    sys.exit(main())
