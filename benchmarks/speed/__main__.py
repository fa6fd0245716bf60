"""bench: speed against peers, a table per benchmark."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recmeta.cli.options import CommonOptions
from recmeta.cli.output import Outcome

if TYPE_CHECKING:
    from benchmarks.speed.result import BenchmarkResult

Threads = Annotated[
    list[int] | None,
    typer.Option(
        "--threads",
        min=1,
        help="Threads of a measurement; give it again for more of them. [default: 1 and 2]",
    ),
]
Seconds = Annotated[float, typer.Option(min=0, help="About how long each is measured.")]
Device = Annotated[str, typer.Option(help="cpu, cuda (a GPU, which one thread feeds) or auto.")]
Entities = Annotated[int, typer.Option(min=1, help="Entity rows, and rows of the source.")]
Rows = Annotated[
    list[int] | None,
    typer.Option(
        "--rows",
        min=1_000,
        help="Rows of the log; give it again for more logs. [default: 1 and 10 million]",
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Where logs and tasks lie meanwhile. [default: TMPDIR]"),
]
Learners = Annotated[
    list[str] | None,
    typer.Option(
        "--learner",
        help="Whose model answers; give it again for more. [default: bayesian-linear and maml]",
    ),
]
Rates = Annotated[
    list[int] | None,
    typer.Option(
        "--rate",
        min=1,
        help="Requests a second; give it again for more. [default: 50, 100, 200 and 400]",
    ),
]
Save = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the JSON to this file as well.")
]


def meta_train(
    common: CommonOptions,
    threads: Threads = None,
    seconds: Seconds = 2.0,
    device: Device = "cpu",
    save: Save = None,
) -> Outcome:
    """Meta-training: the trainer against a loop over users, higher, TorchOpt and vmap(grad).

    All compute the same second-order gradient of MeLU's shape, and print the same loss.
    """
    from benchmarks.speed.meta_train.run import run

    numbers, where = _where(threads, device)
    return _outcome(run(numbers, seconds, where), save)


def adapt_score(
    common: CommonOptions,
    threads: Threads = None,
    seconds: Seconds = 4.0,
    device: Device = "cpu",
    save: Save = None,
) -> Outcome:
    """Cold-start scoring: adapt, rank the whole catalogue; users per second and latency."""
    from benchmarks.speed.adapt_score import run

    numbers, where = _where(threads, device)
    return _outcome(run(numbers, seconds, where), save)


def point_in_time(
    common: CommonOptions, entities: Entities = 100_000, save: Save = None
) -> Outcome:
    """Point-in-time features: recmeta's offline store against Feast's Dask and DuckDB ones."""
    from benchmarks.speed.point_in_time import run

    return _outcome(run(entities), save)


def build_tasks(
    common: CommonOptions,
    rows: Rows = None,
    seconds: Seconds = 4.0,
    folder: Folder = None,
    save: Save = None,
) -> Outcome:
    """Task building: rows per second and peak memory, against pandas and DuckDB.

    All read the same interactions and must write the same tasks.
    """
    from benchmarks.speed.build_tasks.run import run

    return _outcome(run(rows or (1_000_000, 10_000_000), seconds=seconds, folder=folder), save)


def serve(
    common: CommonOptions,
    learner: Learners = None,
    rate: Rates = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long each rate is kept up.")] = 10.0,
    save: Save = None,
) -> Outcome:
    """The endpoint under load: latencies and sheds at several rates of requests.

    Requests leave when they are due, whether or not others came back, from a process of its own.
    """
    from benchmarks.speed.serve.run import LEARNERS, RATES, run

    return _outcome(run(learner or LEARNERS, rate or RATES, seconds), save)


def content_transfer(
    common: CommonOptions,
    source: Annotated[str, typer.Argument(help="ml-1m or ml-100k.", show_default=False)],
    target: Annotated[str, typer.Argument(help="The other one.", show_default=False)],
    learner: Annotated[
        list[str] | None,
        typer.Option(
            "--learner", help="Give it again for more. [default: bayesian-linear and anil]"
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds: 0, 1, 2, …")] = 5,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with the data sets as Parquet.")
    ] = None,
    save: Save = None,
) -> Outcome:
    """Content of another data set: kept, as a start, or none; errors where training users are few.

    Measured on warm users of the target whom nothing is trained on; its cold ones are not read.
    """
    from benchmarks.speed.content_transfer import LEARNERS, run
    from recmeta.cli.progress_bars import shown_progress

    with shown_progress() as progress:
        found = run(
            source,
            target,
            data=data,
            learners=learner or LEARNERS,
            num_seeds=seeds,
            progress=progress,
        )
    return _outcome(found, save)


def _where(asked: list[int] | None, device: str) -> tuple[tuple[int, ...], str]:
    """Return the numbers of threads to measure with, and the device.

    Raises:
        UserError: for a device that PyTorch does not have here.
    """
    from recmeta.training.device import choose_device

    found = choose_device(device).type
    return tuple(asked or ((1, 2) if found == "cpu" else (1,))), found


def _outcome(result: "BenchmarkResult", save: Path | None) -> Outcome:
    data = result.to_dict()
    if save is not None:
        save.parent.mkdir(parents=True, exist_ok=True)
        save.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return Outcome(data=data, text=result.to_markdown())
