"""run: the whole, from a log to ranked lists."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recmeta.cli.command import Command
from recmeta.cli.commands.register import refused
from recmeta.cli.exits import REFUSED
from recmeta.cli.options import (
    AttributeOptions,
    CommonOptions,
    ConfigOptions,
    Device,
    FeatureStore,
    Force,
    LogOptions,
    MaxUnknownShare,
    Processes,
    ProfileIdCol,
    Profiles,
)
from recmeta.cli.output import Outcome
from recmeta.reporting.progress_bars import shown_progress

if TYPE_CHECKING:
    from recmeta.logs.mapping import LogMapping
    from recmeta.pipeline import PipelineResult
    from recmeta.progress import Progress
    from recmeta.workspace import Workspace


def run(
    common: CommonOptions,
    log: LogOptions,
    attributes: AttributeOptions,
    configuration: ConfigOptions,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="ml-100k, ml-1m or book-crossing (fetched), a .toml mapping, or the path or URL "
            "of a log.",
        ),
    ] = None,
    new_users: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Whom to score: interactions in the columns of the log, or a .toml mapping; after "
            "a built-in data set, as `recmeta score` takes them. [default: the cold test users]",
        ),
    ] = None,
    profiles: Profiles = None,
    profile_id_col: ProfileIdCol = "user_id",
    max_unknown_share: MaxUnknownShare = None,
    force: Force = False,
    device: Device = "auto",
    processes: Processes = 1,
    feature_store: FeatureStore = None,
    rival: Annotated[
        bool,
        typer.Option(
            "--rival/--no-rival",
            help="Train a second learner for comparison in the report: the closed form by itself, "
            "where the recipe trains MAML on it.",
        ),
    ] = True,
) -> Outcome:
    """Do every step from a log to ranked lists; finished steps are not done again.

    Exit code 3: everything is done, and the gate did not promote the model.
    """
    from recmeta.cli.mappings import check_is_there, hint_on_unread, profiles_like
    from recmeta.errors import UserError
    from recmeta.features.feast_repository import find

    if profiles is not None and new_users is None:
        raise UserError("--profiles describes the users of --new-users, which is not given.")
    if max_unknown_share is not None and new_users is None:
        raise UserError("--max-unknown-share is of the users of --new-users, which is not given.")
    workspace = common.open_workspace()
    for path in filter(None, (dataset, new_users, profiles)):
        check_is_there(path)
    if feature_store is not None:
        find(feature_store)
    config = configuration.values()
    from recmeta import pipeline
    from recmeta.steps.serving import adapt, score

    if not rival:
        config = dataclasses.replace(config, rival=None, implicit_rival=None)
    with shown_progress() as progress:
        mapping, whom = _mappings(dataset, new_users, log, attributes, progress)
        if whom is not None and profiles is not None:
            known = profiles_like(mapping, profiles, profile_id_col)
            whom = dataclasses.replace(whom, users=known)
        result = pipeline.run(
            config,
            mapping,
            workspace,
            new_users=whom,
            max_unknown_share=max_unknown_share,
            force=force,
            device=device,
            feature_store=feature_store,
            processes=processes,
            progress=progress,
        )
    summary = result.summary()
    promoted = summary["gate"]["promoted"]
    notes = [
        hint_on_unread(mapping),
        "" if whom is None else adapt.remark(result.adapted),
        *score.remarks(result.adapted, result.scored),
        "" if promoted else refused(summary["model_version"]),
    ]
    return Outcome(
        data=summary,
        text=f"{result.report}\n{_where_next(workspace, result)}",
        note=" ".join(filter(None, notes)),
        exit_code=0 if promoted else REFUSED,
    )


def _mappings(
    dataset: str | None,
    new_users: str | None,
    log: LogOptions,
    attributes: AttributeOptions,
    progress: "Progress",
) -> "tuple[LogMapping, LogMapping | None]":
    """Return the mapping of the log, and that of the new users where they are given.

    The options describe the log, and with it the new users; a built-in log needs none, so there
    they are the new users'.
    """
    from recmeta.cli.mappings import log_mapping, new_users_mapping
    from recmeta.logs.fetching.datasets import DATASETS

    if new_users is not None and dataset in DATASETS:
        mapping = log_mapping(dataset, LogOptions(), attributes, progress)
        return mapping, new_users_mapping(new_users, log)
    mapping = log_mapping(dataset, log, attributes, progress)
    return mapping, None if new_users is None else new_users_mapping(new_users, log, like=mapping)


def _where_next(workspace: "Workspace", result: "PipelineResult") -> str:
    """Return the report's last section: what there is to look at, as far as it is there."""
    from recmeta.registry.tracking import server_command, tracking_uri
    from recmeta.workspace import REPORT

    uri = tracking_uri(workspace)
    page = uri if uri.startswith("http") else f"`{server_command(workspace)}`"
    evaluation = result.evaluated.outputs.report
    lines = [
        f"- This report: {workspace.location}/{REPORT}",
        f"- The adaptation curve: {workspace.location}/{evaluation}/adaptation_curve.png",
        f"- All lists: {result.recommendations}",
        f"- Runs, plots and model versions, in MLflow: {page}",
    ]
    checkout = Path(__file__).parents[3]
    if (checkout / "pyproject.toml").exists():
        for pattern, what in (("notebooks/*.ipynb", "Notebooks"), ("dags/*.py", "Airflow DAGs")):
            found = sorted(checkout.glob(pattern))
            if found:
                lines.append(f"- {what}: {found[0].parent}")
    return "## Where to look next\n\n" + "\n".join(lines)


COMMAND = Command(
    run,
    examples="""
recmeta run --dataset ml-100k

recmeta run --dataset events.csv --user-col uid --item-col sku --time-col ts --value-col stars

recmeta run --dataset shop.toml --new-users new.csv --config mine.toml --json
""",
    after="evidence",
    steps=(
        "ingest",
        "materialise-features",
        "build-tasks",
        "meta-train",
        "evaluate",
        "register",
        "adapt",
        "score",
    ),
)
