"""`python -m benchmarks.augmentation --workspace ws --attribute occupation`."""

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
        prog="python -m benchmarks.augmentation",
        description="Judge generated users of rare profiles: what meta-training with them does to "
        "the errors of real users whom nothing was trained on, and how near they come to those of "
        "whom the generator has learned. The cold test users are not looked at.",
    )
    found.add_argument("--workspace", default="workspace", help="one with tasks of ratings")
    found.add_argument("--attribute", required=True, help="the users' attribute")
    found.add_argument("--least-users", type=int, default=30, help="fewer are rare")
    found.add_argument("--learner", default="maml", help="the one that learns from them")
    found.add_argument("--folds", type=int, default=5, help="of the warm users, at least 3")
    found.add_argument("--judged", type=int, help="folds that are judged (default: all)")
    found.add_argument("--seed", type=int, default=0, help="of all that is drawn")
    found.add_argument("--out", type=Path, metavar="FILE.json", help="keep the result there, too")
    found.add_argument("--json", action="store_true", help="print one JSON object")
    return found


def _found(asked: argparse.Namespace) -> Found:
    from benchmarks.accuracy.lists import to_text
    from benchmarks.augmentation import judged
    from recmeta.training.augmentation.config import AugmentConfig

    data, text = judged.run(
        asked.workspace,
        AugmentConfig(attribute=asked.attribute, least_users=asked.least_users),
        asked.learner,
        num_folds=asked.folds,
        num_judged=asked.folds if asked.judged is None else asked.judged,
        seed=asked.seed,
    )
    if asked.out is not None:
        asked.out.write_text(to_text(data), encoding="utf-8")
    return data, text


if __name__ == "__main__":
    sys.exit(main())
