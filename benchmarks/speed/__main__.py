"""`python -m benchmarks.speed NAME`: speed against peers, a table per benchmark."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.command import Found, show
from benchmarks.speed.result import BenchmarkResult, OnRow, Row, unheard

Arguments = argparse.Namespace


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 2 for a user's mistake, 130 if interrupted."""
    asked = parser().parse_args(arguments)
    return show(lambda: measured(asked), as_json=asked.json)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, with a subcommand per benchmark."""
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description="Measure speed against peers."
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object")
    common.add_argument("--save", type=Path, metavar="FILE", help="write the JSON there as well")
    common.add_argument(
        "--lines",
        type=Path,
        metavar="FILE",
        help="append each row there as soon as it is measured, a JSON object a line, and print it "
        "on standard error (meta-train, adapt-score, training, many-users and ingest)",
    )
    names = found.add_subparsers(dest="name", metavar="NAME", required=True)
    for name, (run, options, about) in BENCHMARKS.items():
        options(sub := names.add_parser(name, parents=[common], help=about, description=about))
        sub.set_defaults(run=run)
    return found


def measured(asked: Arguments) -> Found:
    """Run a benchmark, save what it found where that is asked for, and return it."""
    result: BenchmarkResult = asked.run(asked, _lines(asked.lines) if asked.lines else unheard)
    data = result.to_dict()
    if asked.save is not None:
        asked.save.parent.mkdir(parents=True, exist_ok=True)
        asked.save.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return data, result.to_markdown()


def _lines(path: Path) -> OnRow:
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(row: Row) -> None:
        line = json.dumps(row) + "\n"
        sys.stderr.write(line)
        sys.stderr.flush()
        with path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())  # it is complete even if a later step is killed

    return write


def _meta_train(asked: Arguments, on_row: OnRow) -> BenchmarkResult:
    from benchmarks.speed.meta_train.run import run

    return run(*_where(asked), on_row=on_row, quick=asked.quick)


def _adapt_score(asked: Arguments, on_row: OnRow) -> BenchmarkResult:
    from benchmarks.speed.adapt_score import run

    return run(*_where(asked), on_row=on_row, quick=asked.quick)


def _training(asked: Arguments, on_row: OnRow) -> BenchmarkResult:
    from benchmarks.speed.training import run
    from recmeta.training.device import choose_device

    return run(
        choose_device(asked.device).type,
        epochs=asked.epochs,
        users=asked.users,
        learners=asked.learner,
        threads=asked.threads or os.cpu_count() or 1,
        on_row=on_row,
    )


def _many_users(asked: Arguments, on_row: OnRow) -> BenchmarkResult:
    from benchmarks.speed.many_users import run
    from recmeta.training.device import choose_device

    return run(
        choose_device(asked.device).type,
        users=asked.users,
        items=asked.items,
        batch_size=asked.batch_size,
        on_row=on_row,
    )


def _point_in_time(asked: Arguments, on_row: OnRow) -> BenchmarkResult:
    from benchmarks.speed.point_in_time import run

    return run(asked.entities)


def _build_tasks(asked: Arguments, on_row: OnRow) -> BenchmarkResult:
    from benchmarks.speed.build_tasks.run import run

    rows = asked.rows or (1_000_000, 10_000_000)
    return run(rows, seconds=asked.seconds, folder=asked.folder)


def _ingest(asked: Arguments, on_row: OnRow) -> BenchmarkResult:
    from benchmarks.speed.ingest.run import run

    return run(asked.rows or (1_000_000, 10_000_000), folder=asked.folder, on_row=on_row)


def _serve(asked: Arguments, on_row: OnRow) -> BenchmarkResult:
    from benchmarks.speed.serve.run import LEARNERS, RATES, run

    return run(asked.learner or LEARNERS, asked.rate or RATES, asked.seconds)


def _overload(asked: Arguments, on_row: OnRow) -> BenchmarkResult:
    from benchmarks.speed.serve.overload import run

    return run(asked.clients, asked.minutes, learner=asked.learner)


def _content_transfer(asked: Arguments, on_row: OnRow) -> BenchmarkResult:
    from benchmarks.speed.content_transfer import LEARNERS, run
    from recmeta.reporting.progress_bars import shown_progress

    with shown_progress() as progress:
        return run(
            asked.source,
            asked.target,
            data=asked.data,
            learners=asked.learner or LEARNERS,
            num_seeds=asked.seeds,
            progress=progress,
        )


def _where(asked: Arguments) -> tuple[tuple[int, ...], float, str]:
    """Return the numbers of threads to measure with, the approximate duration, and the device.

    Raises:
        UserError: for a device that PyTorch does not have here.
    """
    from recmeta.training.device import choose_device

    device = choose_device(asked.device).type
    return tuple(asked.threads or ((1, 2) if device == "cpu" else (1,))), asked.seconds, device


def _number(text: str) -> int:
    found = int(text)
    if found < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return found


def _device(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--device",
        default="cpu",
        help="cpu, cuda (a GPU, which one thread feeds) or auto (default: cpu)",
    )


def _computing(seconds: float) -> Callable[[argparse.ArgumentParser], None]:
    """Return a function that adds the options of benchmarks that compute with PyTorch."""

    def add(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--threads",
            type=_number,
            action="append",
            metavar="N",
            help="threads of a measurement; give it again for more (default: 1 and 2)",
        )
        sub.add_argument(
            "--seconds", type=float, default=seconds, help="about how long each is measured"
        )
        sub.add_argument(
            "--quick", action="store_true", help="as little as shows that it runs here"
        )
        _device(sub)

    return add


def _training_options(sub: argparse.ArgumentParser) -> None:
    _device(sub)
    sub.add_argument("--epochs", type=_number, default=4, metavar="N", help="most of a training")
    sub.add_argument(
        "--users", type=_number, metavar="N", help="users of the log (default: all that it has)"
    )
    sub.add_argument(
        "--learner",
        action="append",
        metavar="NAME",
        help="give it again for more (default: bayesian-linear and maml)",
    )
    sub.add_argument(
        "--threads", type=_number, metavar="N", help="of the CPU (default: as many as cores)"
    )


def _many_users_options(sub: argparse.ArgumentParser) -> None:
    _device(sub)
    for name, default, what in (
        ("--users", 1_000_000, "of the log"),
        ("--items", 10_000, "of the catalogue"),
        ("--batch-size", 8_192, "users of an outer step"),
    ):
        sub.add_argument(
            name, type=_number, default=default, metavar="N", help=f"{what} (default: {default:,})"
        )


def _point_in_time_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--entities",
        type=_number,
        default=100_000,
        metavar="N",
        help="entity rows, and rows of the source (default: 100,000)",
    )


def _build_tasks_options(sub: argparse.ArgumentParser) -> None:
    _log_options(sub)
    sub.add_argument("--seconds", type=float, default=4.0, help="about how long each is measured")


def _log_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--rows",
        type=_number,
        action="append",
        metavar="N",
        help="rows of the log; give it again for more logs (default: 1 and 10 million)",
    )
    sub.add_argument(
        "--folder", type=Path, help="where logs and what comes out lie meanwhile (default: TMPDIR)"
    )


def _serve_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--learner",
        action="append",
        metavar="NAME",
        help="whose model answers; give it again for more (default: bayesian-linear and maml)",
    )
    sub.add_argument(
        "--rate",
        type=_number,
        action="append",
        metavar="N",
        help="requests a second; give it again for more (default: 100, 200 and 400)",
    )
    sub.add_argument("--seconds", type=float, default=10.0, help="how long each rate is kept up")


def _overload_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--minutes", type=float, default=30.0, help="how long (default: 30)")
    sub.add_argument(
        "--clients", type=_number, default=128, metavar="N", help="how many (default: 128)"
    )
    sub.add_argument(
        "--learner",
        default="bayesian-linear",
        metavar="NAME",
        help="whose model answers (default: bayesian-linear)",
    )


def _content_transfer_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("source", help="ml-1m or ml-100k")
    sub.add_argument("target", help="the other one")
    sub.add_argument(
        "--learner",
        action="append",
        metavar="NAME",
        help="give it again for more (default: bayesian-linear and anil)",
    )
    sub.add_argument(
        "--seeds", type=_number, default=5, metavar="N", help="how many: 0, 1, 2, … (default: 5)"
    )
    sub.add_argument("--data", type=Path, metavar="DIR", help="folder with the data sets")


BENCHMARKS: dict[
    str,
    tuple[
        Callable[[Arguments, OnRow], BenchmarkResult],
        Callable[[argparse.ArgumentParser], None],
        str,
    ],
] = {
    "meta-train": (
        _meta_train,
        _computing(2.0),
        "Meta-training: the trainer against a loop over users, higher, TorchOpt and vmap(grad). "
        "All compute the same second-order gradient of MeLU's shape, and print the same loss.",
    ),
    "adapt-score": (
        _adapt_score,
        _computing(4.0),
        "Cold-start scoring: adapt, rank the whole catalogue; users per second and latency.",
    ),
    "training": (
        _training,
        _training_options,
        "Learners trained by their recipes on MovieLens 1M, on a device beside the CPU: seconds of "
        "an epoch, development losses, memory.",
    ),
    "many-users": (
        _many_users,
        _many_users_options,
        "MAML on a million synthetic users, one pass: users per second, losses, memory.",
    ),
    "point-in-time": (
        _point_in_time,
        _point_in_time_options,
        "Point-in-time features: the offline store against Feast's Dask and DuckDB ones.",
    ),
    "build-tasks": (
        _build_tasks,
        _build_tasks_options,
        "Task building: rows per second and peak memory, against pandas and DuckDB. All read the "
        "same interactions and must write the same tasks.",
    ),
    "ingest": (
        _ingest,
        _log_options,
        "Ingest: rows per second and peak memory, against Polars and DuckDB, from Parquet and from "
        "CSV. All check the same rules, leave one row per key and must count the same.",
    ),
    "serve": (
        _serve,
        _serve_options,
        "The endpoint under load: latencies and sheds at several rates of requests. Requests leave "
        "when they are due, whether or not others came back, from a process of its own.",
    ),
    "overload": (
        _overload,
        _overload_options,
        "The endpoint under more requests than it can answer, for a long time: clients that ask "
        "again as soon as they have an answer or a refusal. Latencies of what is answered, whether "
        "the answers are those of an idle server, and how its memory grows.",
    ),
    "content-transfer": (
        _content_transfer,
        _content_transfer_options,
        "Content of another data set: kept, as a start, or none; errors where training users are "
        "few. Measured on warm users of the target whom nothing is trained on; its cold ones are "
        "not read.",
    ),
}
"""The function that runs each benchmark, the one that adds its options, and its description, by
name."""


if __name__ == "__main__":
    sys.exit(main())
