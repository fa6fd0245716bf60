"""export: the champion in forms that other programs read."""

from typing import TYPE_CHECKING, Annotated

import typer

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions, ModelVersion
from recmeta.cli.output import Outcome

if TYPE_CHECKING:
    from recmeta.steps.serving.export_model import ExportedModel


def export(
    common: CommonOptions,
    onnx: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Write the model as an ONNX graph, which adapts to a user and ranks the "
            "catalogue, and beside it a JSON file that says how to call it.",
        ),
    ] = None,
    model_version: ModelVersion = None,
) -> Outcome:
    """Write the champion, and what it knows of users, in forms that other programs read."""
    from recmeta.errors import UserError

    if onnx is None:
        raise UserError("nothing to export is named: add --onnx DIR.")
    workspace = common.open_workspace()
    from recmeta.registry.models import versions
    from recmeta.steps.serving import export_model

    version = versions.in_use(workspace, model_version)
    found = export_model.run(workspace, version, onnx)
    return Outcome(data=vars(found), text=_text(found))


def _text(found: "ExportedModel") -> str:
    return (
        f"Version {found.model_version} of the model, over {found.num_items:,} items, is an ONNX "
        f"graph of {found.num_bytes / 1e6:.1f} MB in {found.folder} (opset {found.opset}).\n\n"
        f"What the server does beside: {'; '.join(found.left_out)}."
    )


COMMAND = Command(
    export,
    examples="""
recmeta export --onnx device

recmeta export --onnx device --model-version 3
""",
    after="show",
)
