"""adapt and score: from new users' few interactions to ranked lists."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recmeta.cli.options import (
    CommonOptions,
    Device,
    FeatureStore,
    LogOptions,
    ProfileIdCol,
    Profiles,
    RuleOptions,
)
from recmeta.cli.output import Outcome, as_list
from recmeta.cli.progress_bars import shown_progress

if TYPE_CHECKING:
    from recmeta.logs.mapping import LogMapping
    from recmeta.manifest import Manifest
    from recmeta.metalearn.model import Model
    from recmeta.progress import Progress
    from recmeta.workspace import Workspace

NewUsers = Annotated[
    str,
    typer.Argument(
        help="The new users' interactions, in any format of a log, or a .toml mapping. Columns "
        "named user_id, item_id, value and timestamp need no options. A row without an item names "
        "a user of whom nothing is known.",
        show_default=False,
    ),
]
ModelVersion = Annotated[
    str | None,
    typer.Option(metavar="N", help="Version of the model. [default: the champion]"),
]


def adapt(
    common: CommonOptions,
    log: LogOptions,
    new_users: NewUsers,
    profiles: Profiles = None,
    profile_id_col: ProfileIdCol = "user_id",
    feature_store: FeatureStore = None,
    model_version: ModelVersion = None,
    device: Device = "auto",
) -> Outcome:
    """Adapt the champion to new users, without scoring anything yet."""
    from recmeta.workspace import Workspace

    workspace = Workspace(common.workspace)
    with shown_progress() as progress:
        manifest = _adapt(
            workspace,
            new_users,
            log,
            profiles,
            profile_id_col,
            feature_store,
            model_version,
            device,
            progress,
        )
    data = {**manifest.summary(), "reused": manifest.reused}
    return Outcome(data=data, text=as_list(data), note=_nobody(manifest, new_users))


def score(
    common: CommonOptions,
    log: LogOptions,
    rules: RuleOptions,
    new_users: NewUsers,
    profiles: Profiles = None,
    profile_id_col: ProfileIdCol = "user_id",
    feature_store: FeatureStore = None,
    model_version: ModelVersion = None,
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
    from recmeta.config import parse, to_dict
    from recmeta.recipes.configuration import merged, pipeline_config
    from recmeta.serving.ranking import ScoringConfig
    from recmeta.steps import score as step
    from recmeta.workspace import Workspace

    workspace = Workspace(common.workspace)
    options: dict[str, Any] = {}
    if exclude_seen is not None:
        options["exclude_seen"] = exclude_seen
    if reasons is not None:
        options["reasons"] = reasons
    if top_k is not None:
        options["top_k"] = top_k
    base = to_dict(pipeline_config(path=rules.config).score)
    config = parse(ScoringConfig, merged(base, {**options, "rules": rules.given()}))
    with shown_progress() as progress:
        adapted = _adapt(
            workspace,
            new_users,
            log,
            profiles,
            profile_id_col,
            feature_store,
            model_version,
            device,
            progress,
        )
        scored = step.run(config, workspace, adapted, device=device, progress=progress)
    data = {
        **adapted.counts,
        **scored.counts,
        **scored.outputs,
        "reused": adapted.reused and scored.reused,
    }
    return Outcome(data=data, text=as_list(data), note=_nobody(adapted, new_users))


def _nobody(adapted: "Manifest", new_users: str) -> str:
    """Return a sentence where there is nobody to adapt to; else nothing."""
    if adapted.counts["users"]:
        return ""
    return f"{new_users} names no user, so that there is nobody to make a list for."


def _adapt(
    workspace: "Workspace",
    new_users: str,
    log: LogOptions,
    profiles: str | None,
    profile_id_col: str,
    feature_store: str | None,
    model_version: str | None,
    device: str,
    progress: "Progress",
) -> "Manifest":
    from recmeta.metalearn.model import Model
    from recmeta.registry import versions
    from recmeta.steps import adapt as step
    from recmeta.training.device import choose_device

    version = versions.in_use(workspace, model_version)
    model = None
    if profiles is not None:
        model = Model.load(versions.model_folder(workspace, version), choose_device("cpu"))
    return step.run(
        new_users_source(model, new_users, log, profiles, profile_id_col),
        workspace,
        version=version,
        device=device,
        feature_store=feature_store,
        progress=progress,
    )


def new_users_source(
    model: "Model | None",
    new_users: str,
    log: LogOptions,
    profiles: str | None,
    profile_id_col: str,
) -> "LogMapping":
    """Return how to read new users.

    Args:
        model: says which attributes a profile has; needed where there are `profiles`.
    """
    from recmeta.cli.mappings import new_users_mapping, present_profiles
    from recmeta.steps.adapt import profiles_for

    mapping = new_users_mapping(new_users, log)
    if profiles is None:
        return mapping
    assert model is not None
    source = profiles_for(model, profiles, profile_id_col)
    return dataclasses.replace(mapping, users=present_profiles(source))
