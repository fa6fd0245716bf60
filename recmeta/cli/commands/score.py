"""score: a ranked list for each new user."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from recmeta.cli.command import Command
from recmeta.cli.commands.adapt import NewUsers, adapt_given, note_on_nobody, whom_and_with_what
from recmeta.cli.options import (
    CommonOptions,
    Device,
    EngineOptions,
    FeatureStore,
    LogOptions,
    MaxUnknownShare,
    ModelVersion,
    ProfileIdCol,
    Profiles,
    RuleOptions,
)
from recmeta.cli.output import Outcome
from recmeta.reporting.progress_bars import shown_progress

SHOWN_USERS, SHOWN_PLACES = 3, 5
"""Of the lists that are printed."""


def score(
    common: CommonOptions,
    log: LogOptions,
    rules: RuleOptions,
    engine: EngineOptions,
    new_users: NewUsers,
    profiles: Profiles = None,
    profile_id_col: ProfileIdCol = "user_id",
    feature_store: FeatureStore = None,
    model_version: ModelVersion = None,
    max_unknown_share: MaxUnknownShare = None,
    top_k: Annotated[
        int | None, typer.Option(metavar="K", help="Length of a list. [default: 10]")
    ] = None,
    exclude_seen: Annotated[
        bool | None,
        typer.Option(
            "--exclude-seen/--no-exclude-seen",
            help="Keep the user's own items out of the list. [default: yes]",
        ),
    ] = None,
    reasons: Annotated[
        bool | None,
        typer.Option(
            "--reasons/--no-reasons",
            help="Say which interaction put each item on the list. [default: yes]",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Write the lists into this file, too, with titles: .csv, .parquet, .jsonl (a line "
            "per user), or a folder that ends in / for a Delta table. It takes the place of an "
            "earlier one when it is whole.",
        ),
    ] = None,
    device: Device = "auto",
) -> Outcome:
    """Adapt the champion to new users and publish a ranked list for each.

    The lists are in the table `recommendations`, under the `run` that is printed. The first of them
    are shown; `recmeta show USER` shows anybody's.
    """

    workspace = common.open_workspace()
    rules.check()
    workers = engine.values()
    from recmeta.steps.serving import list_files

    target = None if out is None else list_files.target_of(out, workspace)
    source, version = whom_and_with_what(workspace, new_users, log, profiles, model_version)
    from recmeta import schema
    from recmeta.config import merged, parse, to_dict
    from recmeta.manifest import plain
    from recmeta.recipes.configuration import pipeline_config
    from recmeta.serving.ranking import ScoringConfig
    from recmeta.steps.serving import score as step
    from recmeta.steps.serving.adapt import remark

    options: dict[str, Any] = {}
    if exclude_seen is not None:
        options["exclude_seen"] = exclude_seen
    if reasons is not None:
        options["reasons"] = reasons
    if top_k is not None:
        options["top_k"] = top_k
    base = to_dict(pipeline_config(path=rules.config).score)
    config = parse(ScoringConfig, merged(base, {**options, "rules": rules.given()}))
    # So that nothing is forgotten or cleaned up between the two steps.
    with shown_progress() as progress, workspace.working_on():
        adapted = adapt_given(
            workspace,
            source,
            version,
            profiles,
            profile_id_col,
            feature_store,
            max_unknown_share,
            device,
            progress,
            workers,
        )
        scored = step.run(
            config, workspace, adapted, device=device, progress=progress, engine=workers
        )
        if target is not None:
            list_files.write(workspace, scored.outputs.run, target, reasons=config.reasons)
    data = {
        **adapted.counts,
        **scored.counts,
        **plain(scored.outputs),
        "unused": adapted.outputs.unused,
        "recommendations": workspace.table_uri(schema.RECOMMENDATIONS),
        "out": None if target is None else target.location,
        "reused": adapted.reused and scored.reused,
    }
    notes = [note_on_nobody(adapted, new_users), remark(adapted), *step.remarks(adapted, scored)]
    first = list_files.first_lists(workspace, scored.outputs.run, SHOWN_USERS, SHOWN_PLACES)
    return Outcome(data=data, text=_text(data, first), note=" ".join(filter(None, notes)))


def _text(data: dict[str, Any], first: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the counts in a sentence, the first lists, and where all of them are.

    Args:
        first: the first places of the first users' lists.
    """
    from recmeta.markup import inline
    from recmeta.reporting.lists import ranked

    strangers = data["without_interactions"]
    said = (
        f"{data['users']:,} {'user has' if data['users'] == 1 else 'users have'} a list, "
        f"{data['rows_written']:,} rows in all, made by "
        f"version {data['model_version']} of the model from {data['used']:,} interactions"
    )
    said += f"; nothing was known about {strangers:,} of them." if strangers else "."
    if "lists_coverage" in data:
        said += f" The lists show {data['lists_coverage']:.1%} of the catalogue."
    places = [f"- Table: {data['recommendations']}, run {data['run']}"]
    if data["out"] is not None:
        places.insert(0, f"- File: {data['out']}")
    if first:
        places.append("- The whole list of a user, and why: `recmeta show USER`")
    lists = [f"## {inline(user)}\n\n{ranked(rows)}" for user, rows in first.items()]
    return "\n\n".join([said, *lists, "\n".join(places)])


COMMAND = Command(
    score,
    examples="""
recmeta score new_users.csv --out lists.csv

recmeta score new.csv --user-col uid --item-col sku --value-col stars --top-k 20

recmeta score new.csv --profiles profiles.csv --model-version 3

recmeta score new.csv --engine ray --workers 16
""",
    after="adapt",
    steps=("adapt", "score"),
)
