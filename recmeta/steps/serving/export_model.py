"""a version of the model ──▶ a folder for a device: an ONNX graph, its description, and a page.

    model.onnx   adapts to a user and orders the catalogue
    model.json   which items its places mean, and how its inputs are encoded
    index.html   and others: a page that runs the graph in a browser, where it is asked for
    onnxruntime-web/   what the page needs of the npm package of that name

Each file takes the place of an earlier one when it is whole, the graph first.
"""

import dataclasses
import json

from recmeta import extras
from recmeta.exporting.page import RUNTIME_FILES, RUNTIME_FOLDER, page_files, runtime_files
from recmeta.registry.models.versions import Version
from recmeta.steps.parts import catalogue
from recmeta.steps.serving.export_folder import export_folder
from recmeta.workspace import Workspace


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
    page: bool
    """Whether a page was written."""
    runtime: bool
    """Whether ONNX Runtime Web is beside the page."""


def run(
    workspace: Workspace,
    version: Version,
    location: str,
    *,
    page: bool = False,
    runtime: str | None = None,
) -> ExportedModel:
    """Write a model as an ONNX graph.

    Args:
        location: of the folder, which is made where it is not there.
        page: whether to write a page, too, that runs the graph in a browser.
        runtime: the npm package `onnxruntime-web`, to be copied beside the page; if None, what is
            there stays.

    Raises:
        UserError: for a learner that has no graph, a library of the extra `onnx` that is not
            installed, a runtime that lacks a file, or see `export_folder`.
    """
    extras.require("onnx")
    from recmeta.exporting.description import DESCRIPTION_FILE, GRAPH_FILE, description
    from recmeta.exporting.ranking_graph import ranking_graph

    files = {} if runtime is None else runtime_files(runtime)
    pages = page_files() if page else {}
    names = (GRAPH_FILE, DESCRIPTION_FILE, *pages)
    folder = export_folder(workspace, "--onnx", location, names, DESCRIPTION_FILE)
    model = catalogue.model_of_now(workspace, version)
    about = description(model, version.version)
    metadata = {name: str(about[name]) for name in ("model_version", "fingerprint", "learner")}
    content = ranking_graph(model, metadata).SerializeToString()
    folder.write_bytes(GRAPH_FILE, content)
    folder.write_bytes(DESCRIPTION_FILE, json.dumps(about, allow_nan=False).encode())
    beside = folder / RUNTIME_FOLDER
    for name, file in files.items():
        beside.write_bytes(name, file)
    for name, file in pages.items():
        folder.write_bytes(name, file)
    return ExportedModel(
        folder=folder.path,
        model_version=version.version,
        fingerprint=about["fingerprint"],
        num_items=model.catalogue.num_items,
        num_bytes=len(content),
        opset=about["opset"],
        left_out=tuple(about["left_out"]),
        page=page,
        runtime=all(beside.exists(name) for name in RUNTIME_FILES),
    )
