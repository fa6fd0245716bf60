"""evaluation ──▶ a model version in MLflow, with the alias that the gate's decision gives it."""

from typing import Any

from recmeta.manifest import Manifest, run_once
from recmeta.registry import run_page, tracking, versions
from recmeta.registry.description import describe
from recmeta.registry.provenance import actor
from recmeta.workspace import Workspace

STEP = "register"
BECAUSE = {"promoted": "it passed the gate", "forced": "it was forced, against the gate"}


def run(workspace: Workspace, evaluation: Manifest, *, force: bool = False) -> Manifest:
    """Register the evaluated model; it becomes champion if the gate decided so, else challenger.

    Args:
        evaluation: of the evaluate step. Its outputs name `report`, `model`, `model_key`, `run_id`
            and `compared_with`.
        force: make it champion even if the gate refused; the reasons stay on record.

    Returns:
        The manifest, with `model_version`, `promoted`, `decision` (promoted, refused or forced) and
        the version's `aliases` as they are after this.
    """

    def work(_: str) -> tuple[dict[str, Any], dict[str, int]]:
        return _register(workspace, evaluation.outputs, force), {}

    return run_once(
        workspace,
        STEP,
        config={"force": force},
        inputs={"evaluation": evaluation.key, "store": tracking.store_name(workspace)},
        work=work,
    )


def _register(workspace: Workspace, evaluated: dict[str, Any], force: bool) -> dict[str, Any]:
    report = workspace / evaluated["report"]
    gate = report.read_json("decision.json")
    decision = _decision(gate, force)
    promoted = decision != "refused"
    compared_with = evaluated["compared_with"]
    run_id = evaluated["run_id"]
    tags = tracking.run_tags(workspace, run_id)
    version = versions.register_version(
        workspace,
        run_id=run_id,
        model_folder=workspace / evaluated["model"],
        model_key=evaluated["model_key"],
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
            report=evaluated["report"],
        ),
    )
    if promoted:
        versions.promote(workspace, version, BECAUSE[decision])
    else:
        versions.challenge(workspace, version)
    return {
        "model_version": version,
        "promoted": promoted,
        "decision": decision,
        "aliases": versions.aliases_of(workspace, version),
    }


def _decision(gate: dict[str, Any], force: bool) -> str:
    if gate["promoted"]:
        return "promoted"
    return "forced" if force else "refused"
