"""Versions of the registered model and the aliases that say which one is used.

    champion     scores new users
    previous     was the champion before; `rollback` swaps the two
    challenger   the newest candidate that the gate did not promote

A version is found again by its tag `recmeta.model_key`: registering a model twice is harmless.
"""

import dataclasses
import datetime
import re
from collections.abc import Mapping
from typing import Any, Final

from recmeta.errors import Broken, UserError, listed
from recmeta.registry.models.logged_model import MODEL_KEY, artifact_losses, logged_model
from recmeta.registry.owners import connect_to_write
from recmeta.registry.runs import run_page
from recmeta.registry.runs.provenance import actor
from recmeta.registry.tracking import (
    connect,
    has_store,
    model_name,
    store_name,
    tracking_uri,
)
from recmeta.workspace import Folder, Sealed, Workspace, sealed, writes

CHAMPION: Final = "champion"
PREVIOUS: Final = "previous"
CHALLENGER: Final = "challenger"

COMPARED_WITH: Final = "recmeta.compared_with"
DECISION: Final = run_page.DECISION
BEATEN_BY: Final = "recmeta.beaten_by"
REASONS: Final = run_page.REASONS
REGISTERED: Final = "models:/"
NONE: Final = "none"
"""The value of a tag that means no version or no baseline."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Version:
    """One version of the registered model."""

    version: str
    """MLflow's number of it."""
    model_key: str | None
    """Key of the training that made it; None for one that was registered by other means."""
    run_id: str | None
    """MLflow's run of that training."""
    aliases: tuple[str, ...]
    """Sorted."""
    tags: Mapping[str, str]


def register_version(
    workspace: Workspace,
    *,
    run_id: str,
    model_folder: Folder,
    model_key: str,
    tags: Mapping[str, str],
    description: str,
) -> str:
    """Register a finished model, or bring the tags and description of its version up to date.

    Args:
        run_id: the MLflow run that trained it.
        model_folder: what `recmeta.metalearn.model.Model.save` wrote.
        model_key: identifies the model; a second call with the same key makes no second version.
        tags: further tags besides `recmeta.model_key`.
        description: Markdown for the version's page.

    Returns:
        The version.

    Raises:
        UserError: if the store does not have the run.
    """
    client = connect_to_write(workspace)
    _ensure_registered_model(client)
    found = _search(client, f"name = '{model_name()}' and tags.`{MODEL_KEY}` = '{model_key}'")
    if found:
        version = str(found[0].version)
        client.update_model_version(model_name(), version, description)
        for key, value in tags.items():
            client.set_model_version_tag(model_name(), version, key, value)
        logged_model(client, workspace, run_id, model_folder, model_key)  # if its files are lost
        return version
    logged = logged_model(client, workspace, run_id, model_folder, model_key)
    created = client.create_model_version(
        model_name(),
        source=logged.artifact_location,
        run_id=run_id,
        tags={**tags, MODEL_KEY: model_key},
        description=description,
        model_id=logged.model_id,
    )
    return str(created.version)


def versions(workspace: Workspace) -> list[Version]:
    """Return all versions, the oldest first."""
    if not has_store(workspace):
        return []
    client = connect(workspace)
    aliases = _aliases(client)
    found = [_version(v, aliases) for v in _search(client, f"name = '{model_name()}'")]
    return sorted(found, key=lambda v: int(v.version))


def get(workspace: Workspace, number: str) -> Version:
    """Return the version of that number.

    Raises:
        UserError: if there is none.
    """
    found = None
    if has_store(workspace) and re.fullmatch("[0-9]{1,18}", number):
        client = connect(workspace)
        found = _get(client, number, _aliases(client))
    if found is None:
        raise UserError(
            f"the model {model_name()!r} in {store_name(workspace)} has no version {number!r}. "
            f"There are: {', '.join(v.version for v in versions(workspace)) or 'none'}."
        )
    return found


def champion(workspace: Workspace) -> Version | None:
    """Return the version with the alias champion, or None before the first promotion."""
    if not has_store(workspace):
        return None
    client = connect(workspace)
    aliases = _aliases(client)
    return _get(client, aliases.get(CHAMPION), aliases)


def in_use(workspace: Workspace, number: str | None = None) -> Version:
    """Return the version of that number or, for None, the champion.

    Raises:
        UserError: if there is no such version, no champion yet, or no workspace.
    """
    found = champion(workspace) if number is None else get(workspace, number)
    if found is None:
        workspace.require_made()
        raise UserError(
            f"{store_name(workspace)} has no champion to adapt with: run the pipeline until the "
            "gate promotes a model (`recmeta run`), or name one with --model-version."
        )
    return found


def reference_champion(workspace: Workspace, candidate_key: str) -> Version | None:
    """Return the version that a candidate must beat, or None if there is none.

    That is the champion; but if the candidate is itself the champion, because the pipeline is run
    again, it is the one that it was compared with when it was registered.
    """
    if not has_store(workspace):
        return None
    client = connect(workspace)
    aliases = _aliases(client)
    reigning = _get(client, aliases.get(CHAMPION), aliases)
    if reigning is None or reigning.model_key != candidate_key:
        return reigning
    return _get(client, reigning.tags.get(COMPARED_WITH), aliases)


def model_folder(workspace: Workspace, version: Version) -> Sealed:
    """Return a local folder with the version's model files, for `Model.load`.

    If the artifacts are on this machine, it is their own folder; otherwise they are downloaded into
    a new temporary one, which must be read at once.

    Raises:
        Broken: if they are missing, or their digests cannot be read.
    """
    number = version.version
    lost = f"the files of version {number} of the model {model_name()!r} are missing."
    remedy = (
        f"Restore them from a backup, register the model again with `recmeta run --redo "
        f"register`, or go back to the version before {number} with `recmeta rollback`."
    )
    from mlflow.exceptions import MlflowException

    try:
        folder = _model_folder(connect(workspace), workspace, model_name(), number)
    except (OSError, MlflowException) as error:
        if version.model_key is None:
            raise _foreign(workspace, number) from error
        if isinstance(error, MlflowException) and error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise Broken(f"{lost} {remedy}") from error
    if version.model_key is None and not folder.exists("model.json"):
        raise _foreign(workspace, number)
    if not folder.names():
        raise Broken(f"{lost} {remedy}")
    return sealed(folder, remedy)


def _foreign(workspace: Workspace, number: str) -> UserError:
    """Return the error of a version that another program registered under the model's name."""
    ours = [v.version for v in versions(workspace) if v.model_key is not None]
    return UserError(
        f"version {number} of the model {model_name()!r} in {store_name(workspace)} was "
        "not trained by recmeta: another program registered it. Give the alias champion to one of "
        f"recmeta's on the MLflow page, or name one with --model-version: {listed(ours)}."
    )


def named_model(workspace: Workspace, name: str) -> Folder:
    """Return the folder of a model that a user names, for `Model.load`.

    Args:
        name: a folder that holds one, such as WORKSPACE/models/KEY, or `models:/NAME/VERSION` or
            `models:/NAME@ALIAS` in the workspace's MLflow store.

    Raises:
        UserError: if there is no model.
    """
    if not name.startswith(REGISTERED):
        folder = Folder.at(name)
        if not folder.exists("model.json"):
            raise UserError(
                f"there is no model in the folder {name!r}: name one that meta-train wrote, such "
                "as WORKSPACE/models/KEY, or models:/NAME/VERSION."
            )
        return folder
    from mlflow.exceptions import MlflowException

    client = connect(workspace)
    model, _, number = name.removeprefix(REGISTERED).partition("/")
    try:
        if not number:
            model, _, alias = model.partition("@")
            number = str(client.get_model_version_by_alias(model, alias).version)
        return _model_folder(client, workspace, model, number)
    except MlflowException as error:
        raise UserError(
            f"the MLflow store {store_name(workspace)} has no model {name!r}: "
            f"{error.message} Write models:/NAME/VERSION or models:/NAME@ALIAS."
        ) from error


def losses(workspace: Workspace, number: str, *, full: bool = False) -> list[str]:
    """Return sentences on what is lost of a version: the version itself, or files of its model that
    are missing or, if they are on this machine, differ from what was written.

    Args:
        full: read every file.
    """
    place = f"version {number} of the model {model_name()!r} in {store_name(workspace)}"
    if not has_store(workspace):
        return [f"{place} is missing"]
    client = connect(workspace)
    if not _search(client, f"name = '{model_name()}' and version_number = {number}"):
        return [f"{place} is missing"]
    source = client.get_model_version_download_uri(model_name(), number)
    return artifact_losses(source, tracking_uri(workspace), full=full)


def _model_folder(client: Any, workspace: Workspace, name: str, version: str) -> Folder:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    from recmeta.registry.served_model import ARTIFACT

    source = client.get_model_version_download_uri(name, version)
    repository = get_artifact_repository(source, tracking_uri(workspace))
    is_here = isinstance(repository, LocalArtifactRepository)
    target = None if is_here else workspace.temporary_copy()
    return Folder.at(repository.download_artifacts(f"artifacts/{ARTIFACT}", target))


def promote(workspace: Workspace, version: str, because: str) -> None:
    """Make a version the champion, and the old champion the previous one.

    The version's tags and the page of its run record who did it, when and why. Nothing changes if
    it is already the champion, so that a promotion that was killed can be repeated.

    Args:
        because: the reason, a phrase such as "it passed the gate".
    """
    client = connect(workspace)
    aliases = _aliases(client)
    reigning = aliases.get(CHAMPION)
    if reigning != version:
        _record_promotion(client, version, because)
        if reigning is not None:
            client.set_registered_model_alias(model_name(), PREVIOUS, reigning)
        client.set_registered_model_alias(model_name(), CHAMPION, version)
    if aliases.get(CHALLENGER) == version:
        client.delete_registered_model_alias(model_name(), CHALLENGER)
    _refresh_page(client, version)


def challenge(workspace: Workspace, version: str) -> None:
    """Give a version that was not promoted the alias challenger, unless it is the champion."""
    client = connect(workspace)
    if _aliases(client).get(CHAMPION) != version:
        client.set_registered_model_alias(model_name(), CHALLENGER, version)
    _refresh_page(client, version)


@writes
def rollback(workspace: Workspace) -> tuple[str, str]:
    """Swap the champion and the previous version.

    Returns:
        The version that was the champion, and the one that is now.

    Raises:
        UserError: if there is no champion or no other version before it.
    """
    if champion(workspace) is None:
        raise UserError(
            f"there is no champion in the MLflow store {store_name(workspace)} to roll back: run "
            "the pipeline first."
        )
    client = connect(workspace)
    aliases = _aliases(client)
    old, new = aliases[CHAMPION], aliases.get(PREVIOUS)
    if new == old:  # killed between the two: it was the champion before
        new = _promoted_before(workspace, old)
    if new is None:
        raise UserError(
            f"version {old} is the champion and there is no previous one to go back to: give a "
            f"version the alias {PREVIOUS!r} on the MLflow page of the model {model_name()!r}."
        )
    _record_promotion(client, new, f"version {old} was rolled back")
    client.set_registered_model_alias(model_name(), CHAMPION, new)
    client.set_registered_model_alias(model_name(), PREVIOUS, old)
    _refresh_page(client, new)
    return old, new


def _promoted_before(workspace: Workspace, champion: str) -> str | None:
    """Return the version that was champion most recently before the present one; None if there is
    none."""
    promoted = [
        (version.tags[run_page.PROMOTED_AT], int(version.version))
        for version in versions(workspace)
        if run_page.PROMOTED_AT in version.tags and version.version != champion
    ]
    return str(max(promoted)[1]) if promoted else None


def aliases_of(workspace: Workspace, version: str) -> list[str]:
    """Return the aliases of a version, sorted."""
    return sorted(a for a, v in _aliases(connect(workspace)).items() if v == version)


def _record_promotion(client: Any, version: str, because: str) -> None:
    """Record who makes a version the champion. This comes before the alias, so that it is never
    missing."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    tags = {
        run_page.PROMOTED_BY: actor(),
        run_page.PROMOTED_AT: now,
        run_page.PROMOTED_BECAUSE: because,
    }
    for key, value in tags.items():
        client.set_model_version_tag(model_name(), version, key, value)


def _refresh_page(client: Any, version: str) -> None:
    run_id = client.get_model_version(model_name(), version).run_id
    if run_id:
        run_page.refresh(client, run_id)


def _ensure_registered_model(client: Any) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(
            model_name(),
            description="Recommends to users who are new, after a few of their interactions.",
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _aliases(client: Any) -> dict[str, str]:
    """Return version by alias; nothing before the first registration."""
    found = client.search_registered_models(f"name = '{model_name()}'")
    return {} if not found else {a: str(v) for a, v in found[0].aliases.items()}


def _search(client: Any, query: str) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = client.search_model_versions(query, page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return found


def _get(client: Any, version: str | None, aliases: Mapping[str, str]) -> Version | None:
    """Return a version; None for none, and for one that was deleted since."""
    if version is None or version == NONE:
        return None
    found = _search(client, f"name = '{model_name()}' and version_number = {version}")
    return _version(found[0], aliases) if found else None


def _version(entity: Any, aliases: Mapping[str, str]) -> Version:
    version = str(entity.version)
    return Version(
        version=version,
        model_key=entity.tags.get(MODEL_KEY),
        run_id=entity.run_id or None,
        aliases=tuple(sorted(a for a, v in aliases.items() if v == version)),
        tags=dict(entity.tags),
    )
