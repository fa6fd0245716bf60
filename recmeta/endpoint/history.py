"""What the workspace has on record of its models."""

from typing import Any

from recmeta.manifest import LATEST
from recmeta.registry.versions import Version
from recmeta.steps import evaluate
from recmeta.workspace import Workspace


def evaluation_of(workspace: Workspace, version: Version) -> dict[str, Any] | None:
    """Return evaluation.json of a version's newest evaluation; None where the workspace has
    none."""
    folder = workspace / "manifests" / evaluate.STEP
    found = [folder.read_json(name) for name in folder.names() if name != LATEST]
    own = [m for m in found if m["outputs"]["model_key"] == version.model_key]
    if not own:
        return None
    newest = max(own, key=lambda manifest: str(manifest["finished_at"]))
    report: dict[str, Any] = (workspace / newest["outputs"]["report"]).read_json("evaluation.json")
    return report
