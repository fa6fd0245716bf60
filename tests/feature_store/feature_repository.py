"""Copies of the feature repository, each with a workspace of its own."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

from feast import FeatureStore

from recmeta.workspace import Workspace

REPOSITORY = Path(__file__).parents[2] / "feature_store"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repository:
    """A copy of `feature_store/` beside a workspace of its own."""

    folder: Path
    """Where feature_store.yaml is."""
    workspace: Workspace
    """Where the tables are."""

    def feast(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Feast's command line here."""
        return subprocess.run(
            [sys.executable, "-m", "feast.cli.cli", *arguments],
            cwd=self.folder,
            env=os.environ | {"RECMETA_WORKSPACE": self.workspace.location},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def store(self) -> FeatureStore:
        """Return the feature store, as a program opens it."""
        return FeatureStore(str(self.folder))


def copied(folder: Path) -> Repository:
    """Return a fresh copy of the repository, with an empty workspace."""
    ignored = shutil.ignore_patterns("data", "__*")
    shutil.copytree(REPOSITORY, folder / "feature_store", ignore=ignored)
    return Repository(folder=folder / "feature_store", workspace=Workspace(folder / "workspace"))
