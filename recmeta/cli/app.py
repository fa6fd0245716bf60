"""The commands and what their help shows at the end."""

import importlib.metadata
from collections.abc import Callable
from typing import Annotated

import typer

from recmeta.cli import data_commands as data
from recmeta.cli import evidence_command as asking
from recmeta.cli import explain_command as explain
from recmeta.cli import feature_commands as features
from recmeta.cli import forget_command as privacy
from recmeta.cli import learning_commands as learning
from recmeta.cli import pipeline_commands as pipeline
from recmeta.cli import serve_command
from recmeta.cli import serving_commands as serving
from recmeta.cli.command import command
from recmeta.cli.output import Outcome
from recmeta.cli.tune_command import tune

HELP = "Recommendations for users who are new, by meta-learning: from logs to ranked lists."
INGEST_EXAMPLES = """
recmeta ingest ml-100k

recmeta ingest events.csv --user-col uid --item-col sku --time-col ts --value-col stars --scale 1:5

recmeta ingest clicks.jsonl --user-col u --item-col i --time-col at --time-unit iso --event view

recmeta ingest --mapping shop.toml
"""
RUN_EXAMPLES = """
recmeta run --dataset ml-100k

recmeta run --dataset events.csv --user-col uid --item-col sku --time-col ts --value-col stars

recmeta run --dataset shop.toml --new-users new.csv --config mine.toml --json
"""
TUNE_EXAMPLES = """
recmeta tune --trials 30

recmeta tune --learner maml,bayesian-linear --minutes 60 --out mine.toml

recmeta run --dataset ml-100k --config mine.toml
"""
SCORE_EXAMPLES = """
recmeta score new_users.csv

recmeta score new.csv --user-col uid --item-col sku --value-col stars --top-k 20

recmeta score new.csv --profiles profiles.csv --model-version 3
"""
EXPLAIN_EXAMPLES = """
recmeta explain 42 1193

recmeta explain alice 318 --new-users new.csv --plot why.png

recmeta explain 42 1193 --features shapley --json
"""
SERVE_EXAMPLES = """
recmeta serve --no-auth

recmeta serve --host 0.0.0.0 --api-keys keys.txt
"""
EVIDENCE_EXAMPLES = """
recmeta evidence

recmeta evidence --strategy popularity --count 20 --json

recmeta evidence --simulate
"""
FORGET_EXAMPLES = """
recmeta forget 42

recmeta forget 42 77 --reference "request 2026-118" --feature-store feature_store --yes
"""
REBUILD_EXAMPLES = """
recmeta rebuild 5f0c1e7d9a4b4c1d8e2f3a6b7c8d9e0f

recmeta rebuild 5f0c1e7d9a4b4c1d8e2f3a6b7c8d9e0f --into rebuilt --json
"""
MATERIALISE_EXAMPLES = """
recmeta materialise-features

recmeta materialise-features --feature-store feature_store --until 2026-02-01
"""
CHECK_EXAMPLES = """
recmeta features check

recmeta features check --sample 1000 --max-share 0.01 --json
"""
FETCH_EXAMPLES = """
recmeta data fetch ml-1m

recmeta data fetch book-crossing --from BX-CSV-Dump.zip
"""


def build() -> typer.Typer:
    """Return the application. Commands import what they need when they are called."""
    app = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode="markdown",
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(help=HELP)(_global)

    def add(
        name: str, function: Callable[..., Outcome], examples: str, to: typer.Typer = app
    ) -> None:
        heading = "Examples:" if "\n\n" in examples.strip() else "Example:"
        to.command(name, epilog=f"{heading}\n\n{examples.strip()}")(command(function))

    add("ingest", data.ingest, INGEST_EXAMPLES)
    add("materialise-features", features.materialise, MATERIALISE_EXAMPLES)
    add("build-tasks", learning.build_tasks, "recmeta build-tasks --seed 7")
    add("meta-train", learning.meta_train, "recmeta meta-train --epochs 20 --device cpu")
    add("tune", tune, TUNE_EXAMPLES)
    add("evaluate", learning.evaluate, "recmeta evaluate --json")
    add("register", learning.register, "recmeta register\n\nrecmeta register --force")
    add("adapt", serving.adapt, "recmeta adapt new_users.csv")
    add("score", serving.score, SCORE_EXAMPLES)
    add("explain", explain.explain, EXPLAIN_EXAMPLES)
    add("serve", serve_command.serve, SERVE_EXAMPLES)
    add("evidence", asking.evidence, EVIDENCE_EXAMPLES)
    add("run", pipeline.run, RUN_EXAMPLES)
    add("rollback", learning.rollback, "recmeta rollback")
    add("rebuild", learning.rebuild, REBUILD_EXAMPLES)
    add("forget", privacy.forget, FORGET_EXAMPLES)
    add("report", pipeline.report, "recmeta report -w workspace")
    add("doctor", pipeline.doctor, "recmeta doctor\n\nrecmeta doctor --json")
    sets = typer.Typer(help="The built-in public data sets.", no_args_is_help=True)
    add(
        "fetch",
        data.fetch,
        "recmeta data fetch ml-1m\n\nrecmeta data fetch ml-1m --from ml-1m.zip",
        sets,
    )
    add("list", data.list_, "recmeta data list", sets)
    app.add_typer(sets, name="data")
    store = typer.Typer(help="The feature store: a Feast repository.", no_args_is_help=True)
    add("apply", features.apply, "recmeta features apply", store)
    add("check", features.check, CHECK_EXAMPLES, store)
    app.add_typer(store, name="features")
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(importlib.metadata.version("recmeta"))
        raise typer.Exit


def _global(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Take the options that stand before a command."""
