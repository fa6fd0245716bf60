"""benchmark: a published protocol, all learners and baselines, to a report and a JSON."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recmeta.cli.options import CommonOptions
from recmeta.cli.output import Outcome
from recmeta.cli.progress_bars import shown_progress

if TYPE_CHECKING:
    from collections.abc import Mapping

ProtocolName = Annotated[
    str,
    typer.Argument(
        metavar="PROTOCOL",
        show_default=False,
        help="melu-ml1m, melu-book-crossing, temporal-ml100k, temporal-ml1m, "
        "implicit-online-retail or implicit-lastfm.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder with the data sets as Parquet. [default: $RECMETA_SHARED_DATA, else "
        "../shared/data]",
    ),
]
Seeds = Annotated[int, typer.Option(min=1, help="How many seeds: 0, 1, 2, …")]
Learners = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Learners, separated by commas, or `all`. [default: the baselines, MeLU as "
        "published, bayesian-linear and MAML]",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="For results. [default: docs/results in a checkout, else ./results]"
    ),
]


def benchmark(
    common: CommonOptions,
    protocol: ProtocolName,
    data: Data = None,
    seeds: Seeds = 5,
    learners: Learners = None,
    out: Out = None,
) -> Outcome:
    """Measure accuracy by a published protocol: every learner against tuned baselines.

    Writes PROTOCOL.json, .md, .html and plots. What is done is kept, learner by learner and seed by
    seed: a run that was killed goes on.
    """
    from benchmarks.accuracy import run

    folder = out or default_out()
    with shown_progress() as progress:
        result = run.run(
            protocol,
            data=data,
            num_seeds=seeds,
            learners=[n.strip() for n in learners.split(",")] if learners else None,
            out=folder,
            progress=progress,
        )
    report = write(result, folder)
    shown = {k: result[k] for k in ("protocol", "command", "primary_metric")}
    primary = [r for r in result["rows"] if r["metric"] == result["primary_metric"]]
    return Outcome(data={**shown, "out": str(folder), "rows": primary}, text=report)


def default_out() -> Path:
    """Return docs/results where the working folder is a checkout, else results."""
    in_checkout = Path("pyproject.toml").exists() and Path("docs").is_dir()
    return Path("docs/results" if in_checkout else "results")


def write(result: "Mapping[str, Any]", out: Path) -> str:
    """Write JSON, Markdown, HTML and pictures; return the Markdown."""
    from benchmarks.accuracy.plots import pictures
    from benchmarks.accuracy.report import as_html, benchmark_report
    from recmeta.workspace import Folder

    folder, name = Folder.at(out), result["protocol"]
    folder.write_json(f"{name}.json", result)
    drawn = pictures(result)
    files = {shown: f"{name}-{number}.png" for number, shown in enumerate(drawn, 1)}
    for shown, file in files.items():
        folder.write_bytes(file, drawn[shown])
    report = benchmark_report(result, files)
    page = as_html(report, result["title"], {files[shown]: drawn[shown] for shown in drawn})
    folder.write_bytes(f"{name}.md", report.encode())
    folder.write_bytes(f"{name}.html", page.encode())
    return report
