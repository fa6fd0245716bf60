"""explain: which of a user's interactions, and which features of an item, made its score."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions, LogOptions, ModelVersion, ProfileIdCol, Profiles
from recmeta.cli.output import Outcome, write_file

if TYPE_CHECKING:
    from recmeta.steps.parts.explanation import Explanation
MOST_ROWS = 20
"""Of a table that is printed; --json has all."""


def explain(
    common: CommonOptions,
    log: LogOptions,
    user: Annotated[str, typer.Argument(metavar="USER", help="The user's id.", show_default=False)],
    item: Annotated[str, typer.Argument(metavar="ITEM", help="The item's id.", show_default=False)],
    new_users: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Where the user's interactions are, as for `recmeta score`. [default: the "
            "workspace's log]",
        ),
    ] = None,
    profiles: Profiles = None,
    profile_id_col: ProfileIdCol = "user_id",
    model_version: ModelVersion = None,
    features: Annotated[
        str,
        typer.Option(
            metavar="METHOD",
            help="ablation: the score minus the score without the feature; shapley: shares that "
            "add up to the score (needs recmeta[explain]).",
        ),
    ] = "ablation",
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Also draw a picture into this file.")
    ] = None,
) -> Outcome:
    """Say why an item has its score for a user.

    The effect of an interaction is exactly the score minus the score without it.
    """
    from recmeta.cli.commands.adapt import whom_and_with_what
    from recmeta.cli.mappings import with_profiles
    from recmeta.errors import UserError
    from recmeta.registry.models import versions

    if features not in ("ablation", "shapley"):
        raise UserError(f"--features is {features!r}; it must be ablation or shapley.")
    if new_users is None and profiles is not None:
        raise UserError("--profiles describes the users of --new-users, which is not given.")
    workspace = common.open_workspace()
    source = None
    if new_users is None:
        version = versions.in_use(workspace, model_version)
    else:
        source, version = whom_and_with_what(workspace, new_users, log, profiles, model_version)
    from recmeta.steps.parts import catalogue
    from recmeta.steps.parts.explanation import FeatureMethod, explain
    from recmeta.steps.serving.explain import user_of_file, user_of_log

    model = catalogue.model_of_now(workspace, version)
    if source is None:
        tasks = user_of_log(workspace, model, user)
    else:
        if profiles is not None:
            source = with_profiles(source, model, profiles, profile_id_col)
        tasks = user_of_file(model, source, user)
    method: FeatureMethod = "shapley" if features == "shapley" else "ablation"
    found = explain(model, tasks, item, method)
    unit = "in units of the value" if model.objective == "rating" else "a logit"
    data = {**found.to_dict(), "model_version": version.version, "plot": None}
    if plot is not None:
        from recmeta.reporting.explanation_plot import explanation

        write_file(plot, explanation(found.to_dict(), unit=unit), "--plot")
        data["plot"] = str(plot)
    return Outcome(data=data, text=_text(found, unit, version.version))


def _text(found: "Explanation", unit: str, version: str) -> str:
    from recmeta.markup import inline
    from recmeta.reporting.markdown import table

    left_out = len(found.support) - MOST_ROWS
    rest = f"\n\n{left_out} interactions with smaller effects are not shown." * (left_out > 0)
    support = [
        [inline(r.title), f"{r.value:g}", f"{r.effect:+.3f}"] for r in found.support[:MOST_ROWS]
    ]
    features = [[inline(r.name), inline(r.value), f"{r.effect:+.3f}"] for r in found.features]
    return "\n\n".join(
        [
            f"# {inline(found.title)} for user {inline(found.user_id)}: {found.score:.3f}",
            f"The score for a user with this profile and no interactions "
            f"is {found.score_of_unknown_user:.3f}. Scores and effects are {unit}, by version "
            f"{version} of the model.",
            f"## What the user did\n\n{table(['interaction', 'value', 'effect'], support)}{rest}",
            f"## Features of the item\n\n{table(['feature', 'value', 'effect'], features)}",
        ]
    )


COMMAND = Command(
    explain,
    examples="""
recmeta explain 42 1193

recmeta explain alice 318 --new-users new.csv --plot why.png

recmeta explain 42 1193 --features shapley --json
""",
    after="show",
)
