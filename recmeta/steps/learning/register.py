"""evaluation ──▶ a model version in MLflow, with the alias that the gate's decision gives it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from recmeta.manifest import Manifest, run_once
from recmeta.records.step_definition import Step
from recmeta.registry import tracking
from recmeta.registry.models import versions
from recmeta.registry.models.description import describe
from recmeta.registry.runs import run_page
from recmeta.registry.runs.provenance import actor
from recmeta.steps.learning.evaluate import EvaluateOutputs
from recmeta.workspace import Workspace, sealed, writes

Decision = Literal["promoted", "refused", "forced"]
BECAUSE = {"promoted": "it passed the gate", "forced": "it was forced, against the gate"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegisterOutputs:
    """The outputs of register."""

    model_version: str
    """The version of the registered model."""
    promoted: bool
    """Whether it became the champion."""
    decision: Decision
    """`forced` if it became the champion against the gate."""
    aliases: tuple[str, ...]
    """The aliases of the version after this step."""


class _Registered:
    """The version that register leaves in MLflow; see `StepOutput`."""

    def digests(self, workspace: Workspace, outputs: RegisterOutputs) -> dict[str, Any]:
        """Return nothing: the model's files have digests of their own."""
        return {}

    def losses(
        self,
        workspace: Workspace,
        outputs: RegisterOutputs,
        digests: Mapping[str, Any] | None,
        *,
        full: bool,
    ) -> list[str]:
        """Return what the version lacks; see `versions.losses`."""
        return versions.losses(workspace, outputs.model_version, full=full)

    def remove(self, workspace: Workspace, outputs: RegisterOutputs) -> None:
        """Keep the version: registering its model again brings it up to date."""


STEP = Step("register", RegisterOutputs, leaves=(_Registered(),))


@writes
def run(
    workspace: Workspace, evaluation: Manifest[EvaluateOutputs], *, force: bool = False
) -> Manifest[RegisterOutputs]:
    """Register the evaluated model; it becomes champion if the gate decided so, else challenger.

    Args:
        evaluation: of the evaluate step.
        force: make it champion even if the gate refused; the reasons stay on record.
    """

    def work(_: str) -> tuple[RegisterOutputs, dict[str, int]]:
        return _register(workspace, evaluation.outputs, force), {}

    return run_once(
        workspace,
        STEP,
        config={"force": force},
        inputs={"evaluation": evaluation.key, "store": tracking.store_name(workspace)},
        work=work,
    )


def _register(workspace: Workspace, evaluated: EvaluateOutputs, force: bool) -> RegisterOutputs:
    report = sealed(workspace / evaluated.report)
    gate = report.read_json("decision.json")
    decision = _decision(gate, force)
    promoted = decision != "refused"
    compared_with = evaluated.compared_with
    run_id = evaluated.run_id
    tags = tracking.run_tags(workspace, run_id)
    version = versions.register_version(
        workspace,
        run_id=run_id,
        model_folder=workspace / evaluated.model,
        model_key=evaluated.model_key,
        tags={
            versions.COMPARED_WITH: compared_with or versions.NONE,
            versions.DECISION: decision,
            versions.BEATEN_BY: ",".join(gate["beaten_by"]) or versions.NONE,
            versions.REASONS: "\n".join(gate["reasons"]),
        },
        description=describe(
            decision=decision,
            reasons=gate["reasons"],
            compared_with=compared_with,
            evaluation=report.read_json("evaluation.json"),
            data=run_page.data(tags),
            features=run_page.features(tags),
            promoted_by=actor() if promoted else None,
            report=evaluated.report,
        ),
    )
    if promoted:
        versions.promote(workspace, version, BECAUSE[decision])
    else:
        versions.challenge(workspace, version)
    return RegisterOutputs(
        model_version=version,
        promoted=promoted,
        decision=decision,
        aliases=tuple(versions.aliases_of(workspace, version)),
    )


def _decision(gate: dict[str, Any], force: bool) -> Decision:
    if gate["promoted"]:
        return "promoted"
    return "forced" if force else "refused"
