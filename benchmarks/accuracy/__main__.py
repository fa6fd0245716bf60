"""`python -m benchmarks.accuracy PROTOCOL`: a published protocol, from its data to a report."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy import list_cells, lists
from benchmarks.accuracy.protocols import PROTOCOLS
from benchmarks.command import Found, show
from recmeta.errors import UserError, did_you_mean

RESULTS = Path(__file__).parent / "results"
SHOWN_RESULTS = Path(__file__).parents[2] / "docs/results"
ALL = [*PROTOCOLS, *list_cells.PROTOCOLS]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 2 for a user's mistake, 130 if interrupted."""
    asked = parser().parse_args(arguments)
    return show(lambda: measured(asked), as_json=asked.json)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description="Measure accuracy by a published protocol: every learner against tuned "
        "baselines. Writes PROTOCOL.json, PROTOCOL.md and pictures. What is done is kept, learner "
        "by learner and seed by seed: a run that was killed goes on.",
    )
    found.add_argument("protocol", metavar="PROTOCOL", help=f"one of {', '.join(ALL)}")
    found.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder with the data sets as Parquet (default: $RECMETA_SHARED_DATA, else "
        "../shared/data; what is not there is fetched where it can be)",
    )
    found.add_argument(
        "--seeds", type=int, default=5, metavar="N", help="how many seeds: 0, 1, 2, … (default: 5)"
    )
    found.add_argument(
        "--learners",
        metavar="NAMES",
        help="learners, separated by commas, or `all` (default: the baselines, MeLU as published, "
        "bayesian-linear and MAML)",
    )
    found.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="for results (default: benchmarks/accuracy/results; of the protocols of lists and of "
        "the record docs/results)",
    )
    found.add_argument("--json", action="store_true", help="print one JSON object")
    return found


def measured(asked: argparse.Namespace) -> Found:
    """Run the protocol, write its results, and return the rows of its primary metric and the
    report."""
    if asked.protocol not in ALL:
        raise UserError(
            f"there is no protocol {asked.protocol!r}.{did_you_mean(asked.protocol, ALL)} "
            f"There are: {', '.join(ALL)}."
        )
    from benchmarks.accuracy import run
    from recmeta.reporting.progress_bars import shown_progress

    of_lists = asked.protocol in list_cells.PROTOCOLS
    of_record = not of_lists and PROTOCOLS[asked.protocol].is_of_the_record
    out = asked.out or (SHOWN_RESULTS if of_lists or of_record else RESULTS)
    with shown_progress() as progress:
        result = (lists if of_lists else run).run(
            asked.protocol,
            data=asked.data,
            num_seeds=asked.seeds,
            learners=[n.strip() for n in asked.learners.split(",")] if asked.learners else None,
            out=out,
            progress=progress,
        )
    if of_lists:
        report = lists.report(result)
    elif of_record:
        report = keep(result, out)
    else:
        report = write(result, out)
    if of_lists and out == SHOWN_RESULTS:
        kept = [json.loads(path.read_text()) for path in sorted(out.glob("lists-*.json"))]
        lists.PAGE.write_text(lists.in_page(lists.PAGE.read_text(), kept))
    primary_metric = list_cells.LISTS if of_lists else result["primary_metric"]
    rows = [r for r in result["rows"] if r["metric"] == primary_metric]
    shown = {k: result[k] for k in ("protocol", "command")}
    return {**shown, "primary_metric": primary_metric, "out": str(out), "rows": rows}, report


def keep(result: Mapping[str, Any], out: Path) -> str:
    """Write compact JSON, and the leaderboard if it is made from this JSON; return the protocol's
    report as Markdown."""
    from benchmarks.accuracy.compact import compact, to_text
    from benchmarks.accuracy.record import leaderboard
    from benchmarks.accuracy.report import benchmark_report
    from recmeta.workspace import Folder

    Folder.at(out).write_bytes(f"{result['protocol']}.json", to_text(compact(result)).encode())
    if out == SHOWN_RESULTS:
        leaderboard.write()
    return benchmark_report(result, {})


def write(result: Mapping[str, Any], out: Path) -> str:
    """Write compact JSON, Markdown and pictures; return the Markdown."""
    from benchmarks.accuracy.compact import compact, to_text
    from benchmarks.accuracy.plots import pictures
    from benchmarks.accuracy.report import benchmark_report
    from recmeta.workspace import Folder

    folder, name = Folder.at(out), result["protocol"]
    folder.write_bytes(f"{name}.json", to_text(compact(result)).encode())
    drawn = pictures(result)
    files = {shown: f"{name}-{number}.png" for number, shown in enumerate(drawn, 1)}
    for shown, file in files.items():
        folder.write_bytes(file, drawn[shown])
    report = benchmark_report(result, files)
    folder.write_bytes(f"{name}.md", report.encode())
    return report


if __name__ == "__main__":
    sys.exit(main())
