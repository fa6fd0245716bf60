"""a version of the model ──▶ a folder for a device: an ONNX graph, its description, and a page.

    model.onnx   adapts to a user and orders the catalogue
    model.json   which items its places mean, and how its inputs are encoded
    index.html   and others: a page that runs the graph in a browser, where it is asked for

Each file takes the place of an earlier one when it is whole, the graph first.
"""

import dataclasses
import json

from recmeta import extras
from recmeta.registry.models.versions import Version
from recmeta.steps.parts import catalogue
from recmeta.workspace import Folder, Workspace


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """What was written."""

    folder: str
    model_version: str
    fingerprint: str
    """See `recmeta.exporting.fingerprint`."""
    num_items: int
    num_bytes: int
    """The size of the graph."""
    opset: int
    left_out: tuple[str, ...]
    """What the server does beside this."""


def run(workspace: Workspace, version: Version, location: str) -> ExportedModel:
    """Write a model as an ONNX graph.

    Args:
        location: of the folder, which is made where it is not there.

    Raises:
        UserError: for a learner that has no graph, or a library of the extra `onnx` that is not
            installed.
    """
    extras.require("onnx")
    from recmeta.exporting.description import DESCRIPTION_FILE, GRAPH_FILE, description
    from recmeta.exporting.ranking_graph import ranking_graph

    model = catalogue.model_of_now(workspace, version)
    about = description(model, version.version)
    told = {name: str(about[name]) for name in ("model_version", "fingerprint", "learner")}
    content = ranking_graph(model, told).SerializeToString()
    folder = Folder.at(location)
    folder.write_bytes(GRAPH_FILE, content)
    folder.write_bytes(DESCRIPTION_FILE, json.dumps(about, allow_nan=False).encode())
    return ExportedModel(
        folder=folder.path,
        model_version=version.version,
        fingerprint=about["fingerprint"],
        num_items=model.catalogue.num_items,
        num_bytes=len(content),
        opset=about["opset"],
        left_out=tuple(about["left_out"]),
    )
