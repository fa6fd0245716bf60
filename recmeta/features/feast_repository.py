"""Access to a Feast repository from a program: opening, applying definitions, materialising.

A repository is named by its folder, or by one of its configurations
(`feature_store/feature_store.redis.yaml`).
"""

import contextlib
import datetime
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from recmeta.errors import UserError
from recmeta.extras import require
from recmeta.schema import FEATURE_SERVICE
from recmeta.workspace.privacy import UMASK

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore

CONFIGURATION = "feature_store.yaml"
BEGINNING = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def open_store(repository: str) -> "FeatureStore":
    """Return the feature store. This takes a fifth of a second, so that it must not be called in a
    loop.

    Raises:
        UserError: if there is no configuration.
    """
    folder, configuration = find(repository)
    from feast import FeatureStore

    return FeatureStore(str(folder), fs_yaml_file=configuration)


def apply_definitions(repository: str, workspace: str) -> None:
    """Register the repository's definitions over the tables of a workspace, as `feast apply` does.

    The repository's modules run in a process of their own: their names (`views`, `sources`) are too
    general to be imported into this one, and they read RECMETA_WORKSPACE.

    Raises:
        UserError: with Feast's message, if it refuses.
    """
    folder, configuration = find(repository)
    command = [sys.executable, "-m", "feast.cli.cli"]
    done = subprocess.run(  # nosec B603  # a list, no shell; the path is the operator's
        [*command, "--feature-store-yaml", str(configuration), "apply"],
        cwd=folder,
        env=os.environ | {"RECMETA_WORKSPACE": workspace},
        umask=UMASK,  # a SQLite online store holds people's profiles
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["it printed nothing"]
        raise UserError(f"`feast apply` failed in {folder}: {said[-1]}")


def materialise(store: "FeatureStore", until: datetime.datetime) -> datetime.datetime:
    """Put each entity's newest features online.

    The whole history is read and every entity written, whatever was online before. Feast's
    `materialize-incremental` would miss rows that arrived late, whose times are before the end of
    the last materialisation, and the values of an attribute that is new.

    Args:
        until: rows after this time do not count. Online features never go back in time: if a later
            time has been materialised, that one is the end.

    Returns:
        The end.

    Raises:
        UserError: if nothing was applied.
    """
    end = max(filter(None, (until, materialised_until(store))))
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        store.materialize(BEGINNING, end)
    return end


def materialised_until(store: "FeatureStore") -> datetime.datetime | None:
    """Return the latest end of a materialisation, or None before the first one.

    Raises:
        UserError: if nothing was applied.
    """
    views = store.list_feature_views()
    if not views:
        raise UserError(
            f"nothing was applied to the feature store in {store.repo_path}: run `recmeta "
            "features apply` (or `feast apply`) first."
        )
    ends = (view.most_recent_end_time for view in views)
    return max(filter(None, ends), default=None)


def model_service(store: "FeatureStore") -> "FeatureService":
    """Return the feature service of the models.

    Raises:
        UserError: if it was not applied.
    """
    from feast.errors import FeatureServiceNotFoundException

    try:
        return store.get_feature_service(FEATURE_SERVICE)
    except FeatureServiceNotFoundException as error:
        raise UserError(
            f"the feature store in {store.repo_path} has no feature service {FEATURE_SERVICE!r}: "
            "run `recmeta features apply` first."
        ) from error


def find(repository: str) -> tuple[Path, Path]:
    """Return the absolute paths of a repository's folder and of its configuration, without using
    Feast.

    Raises:
        UserError: if there is no configuration, or Feast is not installed.
    """
    given = Path(repository).expanduser().resolve()
    configuration = given if given.suffix in (".yaml", ".yml") else given / CONFIGURATION
    if not configuration.is_file():
        raise UserError(
            f"there is no feature store at {repository!r}: name a folder with {CONFIGURATION} in "
            "it, or a file like that one; `recmeta init` lays one out."
        )
    require("feast")
    return configuration.parent, configuration
