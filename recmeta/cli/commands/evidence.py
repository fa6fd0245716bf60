"""evidence: what to ask a new user, and what asking is worth."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions, Device, ModelVersion
from recmeta.cli.output import Outcome
from recmeta.reporting.progress_bars import shown_progress

if TYPE_CHECKING:
    from recmeta.manifest import Manifest
    from recmeta.steps.serving.evidence import EvidenceOutputs, SimulationOutputs
    from recmeta.workspace import Workspace


def evidence(
    common: CommonOptions,
    strategy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="random, popularity, known-items, gradient-norm, greedy-loss, information-gain or "
            "adaptive-loss. [default: all]",
        ),
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", help="Questions to print.", min=1)] = 10,
    simulate: Annotated[
        bool,
        typer.Option("--simulate", help="Ask the cold test users by every strategy, and compare."),
    ] = False,
    model_version: ModelVersion = None,
    device: Device = "auto",
) -> Outcome:
    """Choose the items to ask a new user about, so that the answers teach most.

    It prints the first questions to a user without interactions. What the adaptive strategies ask
    next depends on the answers; the list is for a user who knows none of the items.
    """
    from recmeta.registry.models import versions
    from recmeta.workspace import sealed

    workspace = common.open_workspace()
    version = versions.in_use(workspace, model_version)
    from recmeta.serving.evidence.questionnaire import STRATEGIES, unknown_strategy
    from recmeta.steps.parts.evidence_trial import TrialConfig
    from recmeta.steps.serving import evidence as step

    if strategy is not None and strategy not in STRATEGIES:
        raise unknown_strategy(strategy)
    with shown_progress() as progress:
        made = step.run(
            step.EvidenceConfig(), workspace, version=version, device=device, progress=progress
        )
        questions = step.first_questions(workspace, made, strategy, count)
        simulated = None
        if simulate:
            simulated = step.simulate(
                TrialConfig(), workspace, made, device=device, progress=progress
            )
    data: dict[str, Any] = {**made.summary(), "questions": questions}
    parts = [_lists(questions, made)]
    if simulated is not None:
        folder = sealed(workspace / simulated.outputs.report)
        data["simulation"] = folder.read_json("simulation.json")
        data["report"] = simulated.outputs.report
        parts.append(folder.read_bytes("simulation.md").decode())
        parts.append(_where(workspace, simulated))
    return Outcome(data=data, text="\n\n".join(parts))


def _lists(questions: dict[str, list[dict[str, str]]], made: "Manifest[EvidenceOutputs]") -> str:
    from recmeta.markup import inline
    from recmeta.reporting.markdown import table

    names = list(questions)
    rows = [
        [str(place + 1), *[inline(questions[n][place]["title"]) for n in names]]
        for place in range(max(len(found) for found in questions.values()))
    ]
    recommended = made.outputs.recommended
    header = ["", *[f"**{n}**" if n == recommended else n for n in names]]
    return (
        f"# What to ask a new user\n\n{table(header, rows)}\n\n`{recommended}` did best on "
        "development users."
    )


def _where(workspace: "Workspace", simulated: "Manifest[SimulationOutputs]") -> str:
    return f"The picture: {workspace.location}/{simulated.outputs.report}/simulation.png"


COMMAND = Command(
    evidence,
    examples="""
recmeta evidence

recmeta evidence --strategy popularity --count 20 --json

recmeta evidence --simulate
""",
    after="serve",
    steps=("evidence", "evidence-simulation"),
)
