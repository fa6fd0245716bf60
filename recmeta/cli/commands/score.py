"""score: a ranked list for each new user."""

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
from recmeta.cli.output import Outcome, as_list
from recmeta.reporting.progress_bars import shown_progress


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
    device: Device = "auto",
) -> Outcome:
    """Adapt the champion to new users and publish a ranked list for each.

    The lists are in the table `recommendations`, under the `run` that is printed.
    """

    workspace = common.open_workspace()
    rules.check()
    workers = engine.values()
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
    data = {
        **adapted.counts,
        **scored.counts,
        **plain(scored.outputs),
        "unused": adapted.outputs.unused,
        "recommendations": workspace.table_uri(schema.RECOMMENDATIONS),
        "reused": adapted.reused and scored.reused,
    }
    notes = [note_on_nobody(adapted, new_users), remark(adapted), *step.remarks(adapted, scored)]
    return Outcome(data=data, text=as_list(data), note=" ".join(filter(None, notes)))


COMMAND = Command(
    score,
    examples="""
recmeta score new_users.csv

recmeta score new.csv --user-col uid --item-col sku --value-col stars --top-k 20

recmeta score new.csv --profiles profiles.csv --model-version 3

recmeta score new.csv --engine ray --workers 16
""",
    after="adapt",
    steps=("adapt", "score"),
)
