from unittest.mock import ANY

import pytest
from registry_pipeline import Pipeline

from recmeta.registry.models import versions
from recmeta.registry.tracking import connect
from recmeta.steps.learning import register
from recmeta.steps.learning.register import RegisterOutputs
from recmeta.workspace import Workspace


def aliases(workspace: Workspace) -> dict[str, str]:
    return {alias: v.version for v in versions.versions(workspace) for alias in v.aliases}


def test_promoted_then_refused_then_forced(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "kim")
    workspace = pipeline.workspace
    first = register.run(workspace, pipeline.evaluate("k1", promoted=True, compared_with=None))
    assert first.outputs == RegisterOutputs(
        model_version="1",
        promoted=True,
        decision="promoted",
        aliases=("champion",),
    )

    evaluation = pipeline.evaluate(
        "k2", promoted=False, compared_with="1", beaten_by=("item-mean", "popularity")
    )
    refused = register.run(workspace, evaluation)
    assert refused.outputs == RegisterOutputs(
        model_version="2",
        promoted=False,
        decision="refused",
        aliases=("challenger",),
    )
    second = versions.versions(workspace)[1]
    assert {k: v for k, v in second.tags.items() if k.startswith("recmeta.")} == {
        "recmeta.model_key": "k2",
        "recmeta.compared_with": "1",
        "recmeta.decision": "refused",
        "recmeta.beaten_by": "item-mean,popularity",
        "recmeta.reasons": "Worse than item-mean.",
    }
    assert {k: v for k, v in versions.versions(workspace)[0].tags.items() if "promoted" in k} == {
        "recmeta.promoted_by": "kim",
        "recmeta.promoted_at": ANY,
        "recmeta.promoted_because": "it passed the gate",
    }
    described = connect(workspace).get_model_version("recmeta", "2").description
    assert "Worse than item-mean." in described
    assert "`interactions` version 3" in described
    assert "Features: `melu_v1`" in described
    assert "user_profile:occupation" in described
    assert "| item-mean | 0.8000 |" in described

    forced = register.run(workspace, evaluation, force=True)
    assert forced.outputs.model_version == "2"
    assert forced.outputs.decision == "forced"
    assert aliases(workspace) == {"champion": "2", "previous": "1"}
    tags = versions.versions(workspace)[1].tags
    assert tags["recmeta.reasons"] == "Worse than item-mean."
    assert tags["recmeta.promoted_because"] == "it was forced, against the gate"
    assert "by kim" in connect(workspace).get_model_version("recmeta", "2").description


def test_finished_step_is_not_done_again(pipeline: Pipeline) -> None:
    evaluation = pipeline.evaluate("k1", promoted=True, compared_with=None)
    first = register.run(pipeline.workspace, evaluation)
    register.run(pipeline.workspace, pipeline.evaluate("k2", promoted=True, compared_with="1"))
    again = register.run(pipeline.workspace, evaluation)
    assert again.reused
    assert again.outputs == first.outputs
    assert aliases(pipeline.workspace) == {"champion": "2", "previous": "1"}


@pytest.mark.parametrize(
    "last", ["register_version", "promote", "aliases_of"], ids="killed after {}".format
)
def test_killed_and_run_again(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    workspace = pipeline.workspace
    register.run(workspace, pipeline.evaluate("k1", promoted=True, compared_with=None))
    evaluation = pipeline.evaluate("k2", promoted=True, compared_with="1")
    done = getattr(versions, last)

    def then_killed(*arguments: object, **named: object) -> None:
        done(*arguments, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(versions, last, then_killed)
        with pytest.raises(KeyboardInterrupt):
            register.run(workspace, evaluation)
    reference = versions.reference_champion(workspace, "k2")
    assert reference is not None
    assert reference.version == "1", "a rerun of evaluate would compare with another model"

    finished = register.run(workspace, evaluation)
    assert finished.outputs.model_version == "2"
    assert aliases(workspace) == {"champion": "2", "previous": "1"}
