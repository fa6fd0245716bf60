"""export: the champion in forms that other programs read."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from recmeta.cli.command import Command
from recmeta.cli.commands.adapt import adapt_given, note_on_nobody, whom_and_with_what
from recmeta.cli.options import (
    CommonOptions,
    EngineOptions,
    FeatureStore,
    LogOptions,
    MaxUnknownShare,
    ModelVersion,
    ProfileIdCol,
    Profiles,
)
from recmeta.cli.output import Outcome
from recmeta.reporting.progress_bars import shown_progress

if TYPE_CHECKING:
    from recmeta.steps.serving.export_model import ExportedModel
    from recmeta.steps.serving.export_vectors import ExportedVectors


def export(
    common: CommonOptions,
    log: LogOptions,
    engine: EngineOptions,
    new_users: Annotated[
        str | None,
        typer.Argument(
            help="With --vectors: the users to adapt to, as `recmeta adapt` takes them. Without "
            "it there are item vectors alone.",
            show_default=False,
        ),
    ] = None,
    onnx: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Write the model as an ONNX graph, which adapts to a user and ranks the "
            "catalogue, and beside it a JSON file that says how to call it.",
        ),
    ] = None,
    page: Annotated[
        bool,
        typer.Option(
            "--page",
            help="With --onnx: write a page, too, that runs the graph in a browser; no answer "
            "leaves the device.",
        ),
    ] = False,
    onnxruntime_web: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="The npm package onnxruntime-web, whose three files for browsers are copied "
            "beside the page.",
        ),
    ] = None,
    vectors: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Write items and adapted users as vectors, from which other programs compute the "
            "same scores; they are in the tables item_vectors and user_capsules, too.",
        ),
    ] = None,
    profiles: Profiles = None,
    profile_id_col: ProfileIdCol = "user_id",
    feature_store: FeatureStore = None,
    model_version: ModelVersion = None,
    max_unknown_share: MaxUnknownShare = None,
) -> Outcome:
    """Write the champion, and what it has learned of users, in forms that other programs read."""
    from recmeta.errors import UserError

    if onnx is None and vectors is None:
        raise UserError("there is nothing to export: add --onnx DIR or --vectors DIR.")
    if new_users is not None and vectors is None:
        raise UserError(f"{new_users!r} has users, whom only --vectors DIR exports: add it.")
    if onnx is None and (page or onnxruntime_web is not None):
        raise UserError("--page and --onnxruntime-web need --onnx DIR: add it.")
    workspace = common.open_workspace()
    workspace.require_made()
    workers = engine.values()
    from recmeta.registry.models import versions

    data: dict[str, Any] = {}
    version = None
    said: list[str] = []
    note = ""
    if vectors is not None:
        from recmeta.steps.serving import export_vectors
        from recmeta.steps.serving.adapt import remark

        export_vectors.folder_for(workspace, vectors)
        adapted = None
        with workspace.working_on():
            if new_users is None:
                version = versions.in_use(workspace, model_version)
            else:
                source, version = whom_and_with_what(
                    workspace, new_users, log, profiles, model_version
                )
                with shown_progress() as progress:
                    adapted = adapt_given(
                        workspace,
                        source,
                        version,
                        profiles,
                        profile_id_col,
                        feature_store,
                        max_unknown_share,
                        "auto",
                        progress,
                        workers,
                    )
                note = note_on_nobody(adapted, new_users) or remark(adapted)
            of_vectors = export_vectors.run(workspace, version, vectors, adapted)
        data["vectors"] = vars(of_vectors)
        said.append(_on_vectors(of_vectors))
    if onnx is not None:
        from recmeta.steps.serving import export_model

        of_model = export_model.run(
            workspace,
            version or versions.in_use(workspace, model_version),
            onnx,
            page=page,
            runtime=onnxruntime_web,
        )
        data["onnx"] = vars(of_model)
        said.append(_on_model(of_model))
    return Outcome(data=data, text="\n\n".join(said), note=note)


def _on_model(found: "ExportedModel") -> str:
    page = ""
    if found.page and found.runtime:
        page = f"\n\nThe page: `python -m http.server --directory {found.folder}`, or any server."
    elif found.page:
        page = (
            "\n\nThe page needs ONNX Runtime Web: `npm install onnxruntime-web`, then the same "
            "command with `--onnxruntime-web node_modules/onnxruntime-web`."
        )
    return (
        f"Version {found.model_version} of the model, over {found.num_items:,} items, is an ONNX "
        f"graph of {found.num_bytes / 1e6:.1f} MB in {found.folder} (opset {found.opset}).\n\n"
        f"What the server does beside: {'; '.join(found.left_out)}.{page}"
    )


def _on_vectors(found: "ExportedVectors") -> str:
    return (
        f"{found.num_items:,} items and {found.num_users:,} users of version "
        f"{found.model_version} of the model (fingerprint {found.fingerprint}) are vectors of "
        f"{found.width} numbers in {found.folder}."
    )


COMMAND = Command(
    export,
    examples="""
recmeta export --onnx device

recmeta export --onnx device --page --onnxruntime-web node_modules/onnxruntime-web

recmeta export new_users.csv --vectors vectors

recmeta export new.csv --user-col uid --item-col sku --vectors vectors --model-version 3
""",
    after="show",
)
