"""adapt: the champion to new users."""

from typing import TYPE_CHECKING, Annotated

import typer

from recmeta.cli.command import Command
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
)
from recmeta.cli.output import Outcome, as_list
from recmeta.reporting.progress_bars import shown_progress

if TYPE_CHECKING:
    from recmeta.engine.config import EngineConfig
    from recmeta.logs.mapping import LogMapping
    from recmeta.manifest import Manifest
    from recmeta.progress import Progress
    from recmeta.registry.models.versions import Version
    from recmeta.steps.serving.adapt import AdaptOutputs
    from recmeta.workspace import Workspace

NewUsers = Annotated[
    str,
    typer.Argument(
        help="The new users' interactions, in any format of a log, or a .toml mapping. Columns "
        "named user_id, item_id, value and timestamp need no options. A row without an item names "
        "a user without interactions, and so does every row of a file of user_id alone.",
        show_default=False,
    ),
]


def adapt(
    common: CommonOptions,
    log: LogOptions,
    engine: EngineOptions,
    new_users: NewUsers,
    profiles: Profiles = None,
    profile_id_col: ProfileIdCol = "user_id",
    feature_store: FeatureStore = None,
    model_version: ModelVersion = None,
    max_unknown_share: MaxUnknownShare = None,
    device: Device = "auto",
) -> Outcome:
    """Adapt the champion to new users, without scoring anything yet."""

    workspace = common.open_workspace()
    workers = engine.values()
    source, version = whom_and_with_what(workspace, new_users, log, profiles, model_version)
    with shown_progress() as progress:
        manifest = adapt_given(
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
    from recmeta.steps.serving.adapt import remark

    data = {**manifest.summary(), "reused": manifest.reused}
    note = note_on_nobody(manifest, new_users) or remark(manifest)
    return Outcome(data=data, text=as_list(data), note=note)


def note_on_nobody(adapted: "Manifest[AdaptOutputs]", new_users: str) -> str:
    """Return a sentence where there is nobody to adapt to; else nothing."""
    if adapted.counts["users"]:
        return ""
    return f"{new_users} names no user, so that there is nobody to make a list for."


def whom_and_with_what(
    workspace: "Workspace",
    new_users: str,
    log: LogOptions,
    profiles: str | None,
    model_version: str | None,
) -> "tuple[LogMapping, Version]":
    """Return how to read the users in a file, without their profiles, and the model's version.

    What does not exist is reported before PyTorch is imported.

    Raises:
        UserError: where a file, the version or a champion is not there.
    """
    from recmeta.cli.mappings import check_is_there, new_users_mapping
    from recmeta.registry.models import versions

    source = new_users_mapping(new_users, log)
    if profiles is not None:
        check_is_there(profiles)
    return source, versions.in_use(workspace, model_version)


def adapt_given(
    workspace: "Workspace",
    source: "LogMapping",
    version: "Version",
    profiles: str | None,
    profile_id_col: str,
    feature_store: str | None,
    max_unknown_share: float | None,
    device: str,
    progress: "Progress",
    engine: "EngineConfig",
) -> "Manifest[AdaptOutputs]":
    """Adapt the model of a version to new users."""
    from recmeta.cli.mappings import with_profiles
    from recmeta.metalearn.model import Model
    from recmeta.registry.models import versions
    from recmeta.steps.serving import adapt as step
    from recmeta.training.device import choose_device

    if profiles is not None:
        model = Model.load(versions.model_folder(workspace, version), choose_device("cpu"))
        source = with_profiles(source, model, profiles, profile_id_col)
    return step.run(
        source,
        workspace,
        version=version,
        device=device,
        feature_store=feature_store,
        max_unknown_share=max_unknown_share,
        progress=progress,
        engine=engine,
    )


COMMAND = Command(
    adapt,
    examples="""
recmeta adapt new_users.csv

recmeta adapt new_users.csv --workers 4
""",
    after="register",
    steps=("adapt",),
)
