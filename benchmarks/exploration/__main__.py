"""`python -m benchmarks.exploration NAME`: regret, estimators, replay or questions."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.command import Found, show


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 2 for a user's mistake, 130 if interrupted."""
    asked = parser().parse_args(arguments)
    return show(lambda: _found(asked), as_json=asked.json)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.exploration", description="Judge exploration and its estimates."
    )
    found.add_argument("name", choices=["regret", "estimators", "replay", "questions"])
    found.add_argument("--json", action="store_true", help="print one JSON object")
    found.add_argument("--seeds", type=int, default=5, help="logs (regret), or draws (replay)")
    found.add_argument("--hard", action="store_true", help="regret: no profiles, six preferences")
    found.add_argument("--length", type=int, default=5, help="regret: items of a list")
    found.add_argument("--simulations", type=int, default=200, help="of estimators")
    found.add_argument("--first", type=int, default=0, help="of estimators: the first seed")
    found.add_argument("--users", type=int, default=300, help="of estimators: who are served")
    found.add_argument("--workspace", default="workspace", help="replay: one with a champion")
    found.add_argument("--data", type=Path, metavar="DIR", help="questions: the data sets' folder")
    return found


def _found(asked: argparse.Namespace) -> Found:
    if asked.name == "regret":
        from benchmarks.exploration import regret

        return regret.run(asked.seeds, length=asked.length, hard=asked.hard)
    if asked.name == "estimators":
        from benchmarks.exploration import estimators

        return estimators.variants(asked.simulations, asked.users, asked.first)
    if asked.name == "questions":
        from benchmarks.exploration import questions

        return questions.run(asked.data)
    from benchmarks.exploration import replay

    return replay.run(asked.workspace, asked.seeds)


if __name__ == "__main__":
    sys.exit(main())
