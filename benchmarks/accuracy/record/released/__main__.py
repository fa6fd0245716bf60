"""`python -m benchmarks.accuracy.record.released`: the audit of released code."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.accuracy.record import leaderboard
from benchmarks.accuracy.record.released import audit
from benchmarks.accuracy.record.released.projects import MELU_EPOCHS, PROJECTS
from benchmarks.command import Found, show
from recmeta.errors import UserError, did_you_mean

PROJECTS_BY_NAME = {project.name: project for project in PROJECTS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 2 for a user's mistake, 130 if interrupted."""
    asked = parser().parse_args(arguments)
    return show(lambda: audited(asked), as_json=asked.json)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.record.released",
        description="Give the released code of other projects the same lists as our metrics, and "
        "write what each says. Their code is fetched by git into --code and never into the tree.",
    )
    found.add_argument(
        "projects",
        nargs="*",
        metavar="PROJECT",
        help=f"of {', '.join(PROJECTS_BY_NAME)} (default: all)",
    )
    found.add_argument(
        "--code", type=Path, required=True, metavar="DIR", help="folder outside of the checkout"
    )
    found.add_argument(
        "--epochs",
        type=int,
        default=MELU_EPOCHS,
        metavar="N",
        help=f"of MeLU's training, a CPU minute each (default: {MELU_EPOCHS}, as it has)",
    )
    found.add_argument("--data", type=Path, metavar="DIR", help="folder with the data sets")
    found.add_argument("--out", type=Path, default=leaderboard.RESULTS, metavar="DIR")
    found.add_argument("--json", action="store_true", help="print one JSON object")
    return found


def audited(asked: argparse.Namespace) -> Found:
    """Run the audits, keep them beside those that were run before, and return them."""
    names = asked.projects or list(PROJECTS_BY_NAME)
    for name in names:
        if name not in PROJECTS_BY_NAME:
            raise UserError(
                f"there is no project {name!r}.{did_you_mean(name, list(PROJECTS_BY_NAME))} "
                f"There are: {', '.join(PROJECTS_BY_NAME)}."
            )
    path: Path = asked.out / leaderboard.RELEASED
    before = json.loads(path.read_text(encoding="utf-8"))["projects"] if path.exists() else []
    found = {project["name"]: project for project in before}
    for name in names:
        found[name] = audit.found(PROJECTS_BY_NAME[name], asked)
        kept = {"projects": [found[n] for n in PROJECTS_BY_NAME if n in found]}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(kept, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if asked.out == leaderboard.RESULTS:
        leaderboard.write()
    return kept, "\n\n".join(leaderboard.audited(kept))


if __name__ == "__main__":
    sys.exit(main())
