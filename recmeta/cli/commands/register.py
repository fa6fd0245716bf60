"""register: the gate's verdict, and a version of the registered model."""

from recmeta.cli.command import Command
from recmeta.cli.exits import REFUSED
from recmeta.cli.options import CommonOptions, Force
from recmeta.cli.output import Outcome, as_list


def register(common: CommonOptions, force: Force = False) -> Outcome:
    """Register the model that was evaluated last; the gate decides whether it is champion.

    Exit code 3: the gate refused; the model is registered as challenger.
    """
    from recmeta import manifest as manifests
    from recmeta.steps.learning import evaluate
    from recmeta.steps.learning import register as step
    from recmeta.workspace import sealed

    workspace = common.open_workspace()
    evaluated = manifests.latest(workspace, evaluate.STEP)
    manifest = step.run(workspace, evaluated, force=force)
    report = sealed(workspace / evaluated.outputs.report)
    reasons = report.read_json("decision.json")["reasons"]
    data = {**manifest.summary(), "reasons": reasons, "reused": manifest.reused}
    promoted = manifest.outputs.promoted
    return Outcome(
        data=data,
        text=as_list(data),
        note="" if promoted else refused(manifest.outputs.model_version),
        exit_code=0 if promoted else REFUSED,
    )


def refused(version: str) -> str:
    """Return the line that explains exit code 3."""
    return (
        f"The gate did not promote version {version} (exit code 3); --force promotes it all the "
        "same."
    )


COMMAND = Command(
    register,
    examples="""
recmeta register

recmeta register --force
""",
    after="evaluate",
    needs="evaluate",
    steps=("register",),
)
