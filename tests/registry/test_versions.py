from typing import Any

import pytest
from registry_pipeline import Pipeline

from recmeta.errors import UserError
from recmeta.metalearn.model import Model
from recmeta.registry.models import versions
from recmeta.registry.models.packaging import package
from recmeta.registry.tracking import connect, experiment_id, store_name
from recmeta.workspace import Workspace


def register(pipeline: Pipeline, key: str, **tags: str) -> str:
    return versions.register_version(
        pipeline.workspace,
        run_id=pipeline.train(key),
        model_folder=pipeline.workspace / "models" / key,
        model_key=key,
        tags={versions.COMPARED_WITH: versions.NONE, **tags},
        description=f"Model {key}.",
    )


def aliases(workspace: Workspace) -> dict[str, str]:
    return {alias: v.version for v in versions.versions(workspace) for alias in v.aliases}


def promotion(workspace: Workspace, version: str) -> tuple[str, str]:
    tags = versions.get(workspace, version).tags
    return tags["recmeta.promoted_because"], tags["recmeta.promoted_at"]


def test_nothing_is_registered_at_first(workspace: Workspace) -> None:
    assert versions.champion(workspace) is None
    assert versions.reference_champion(workspace, "k1") is None
    assert versions.versions(workspace) == []
    with pytest.raises(UserError, match="no champion"):
        versions.rollback(workspace)


def test_registering_twice_gives_one_version_with_the_newer_tags(pipeline: Pipeline) -> None:
    assert register(pipeline, "k1", **{versions.DECISION: "refused"}) == "1"
    assert register(pipeline, "k1", **{versions.DECISION: "forced"}) == "1"
    (found,) = versions.versions(pipeline.workspace)
    assert found.model_key == "k1"
    assert found.tags[versions.DECISION] == "forced"
    client = connect(pipeline.workspace)
    assert len(client.search_logged_models([experiment_id(client)])) == 1


def test_models_of_other_names_have_champions_of_their_own(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workspaces that share an MLflow server, with trainings of the same key."""
    workspace = pipeline.workspace
    versions.promote(workspace, register(pipeline, "k1"), "the gate")
    store = store_name(workspace)
    monkeypatch.setenv("RECMETA_MODEL_NAME", "films-v2")
    assert store_name(workspace) != store
    assert versions.champion(workspace) is None
    assert register(pipeline, "k1") == "1"
    assert versions.champion(workspace) is None
    monkeypatch.delenv("RECMETA_MODEL_NAME")
    champion = versions.champion(workspace)
    assert champion is not None
    assert champion.version == "1"
    monkeypatch.setenv("RECMETA_MODEL_NAME", "a/b")
    with pytest.raises(UserError, match="RECMETA_MODEL_NAME is 'a/b'"):
        versions.champion(workspace)


def test_killed_while_logging_the_model(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed_after_writing(*arguments: Any) -> None:
        package(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("recmeta.registry.models.packaging.package", killed_after_writing)
        with pytest.raises(KeyboardInterrupt):
            register(pipeline, "k1")
    assert versions.versions(pipeline.workspace) == []
    assert register(pipeline, "k1") == "1"
    client = connect(pipeline.workspace)
    (logged,) = client.search_logged_models([experiment_id(client)])
    assert str(logged.status) == "READY"
    run = client.get_run(pipeline.train("k1"))
    assert [output.model_id for output in run.outputs.model_outputs] == [logged.model_id]


def test_promotions_and_rollbacks(pipeline: Pipeline) -> None:
    workspace = pipeline.workspace
    first, second, third = (register(pipeline, key) for key in ("k1", "k2", "k3"))
    versions.promote(workspace, first, "it is better")
    assert aliases(workspace) == {"champion": first}
    promoted_at = versions.get(workspace, first).tags["recmeta.promoted_at"]
    versions.promote(workspace, first, "another reason")  # already: nothing changes
    assert promotion(workspace, first) == ("it is better", promoted_at)
    with pytest.raises(UserError, match="no previous one"):
        versions.rollback(workspace)

    versions.challenge(workspace, second)
    assert aliases(workspace) == {"champion": first, "challenger": second}
    versions.promote(workspace, second, "it is better")
    assert aliases(workspace) == {"champion": second, "previous": first}
    versions.promote(workspace, second, "it is better")  # again, after a kill
    assert aliases(workspace) == {"champion": second, "previous": first}

    assert versions.rollback(workspace) == (second, first)
    assert promotion(workspace, first)[0] == f"version {second} was rolled back"
    assert promotion(workspace, second)[0] == "it is better"
    assert aliases(workspace) == {"champion": first, "previous": second}
    assert versions.rollback(workspace) == (first, second)

    versions.challenge(workspace, third)
    versions.challenge(workspace, second)  # the champion does not challenge itself
    assert aliases(workspace) == {"champion": second, "previous": first, "challenger": third}


def test_reference_of_a_rerun_is_what_it_was_compared_with(pipeline: Pipeline) -> None:
    workspace = pipeline.workspace
    versions.promote(workspace, register(pipeline, "k1"), "it is better")
    found = versions.reference_champion(workspace, "k2")
    assert found is not None
    assert found.model_key == "k1"
    assert versions.reference_champion(workspace, "k1") is None

    versions.promote(
        workspace, register(pipeline, "k2", **{versions.COMPARED_WITH: "1"}), "it is better"
    )
    again = versions.reference_champion(workspace, "k2")
    assert again is not None
    assert again.version == "1"
    assert again.aliases == ("previous",)


def test_model_comes_back_as_it_was(pipeline: Pipeline) -> None:
    versions.promote(pipeline.workspace, register(pipeline, "k1"), "it is better")
    champion = versions.champion(pipeline.workspace)
    assert champion is not None
    found = versions.model_folder(pipeline.workspace, champion)
    saved = pipeline.workspace / "models" / "k1"
    assert found.path != saved.path
    assert "checkpoint.safetensors" not in found.names()
    for name in found.names():
        assert found.read_bytes(name) == saved.read_bytes(name)
    Model.load(found)


@pytest.mark.parametrize("has_files", [False, True])
def test_a_version_of_another_program_is_told(pipeline: Pipeline, has_files: bool) -> None:
    ours, workspace = register(pipeline, "k1"), pipeline.workspace
    foreign = workspace / "foreign"
    if has_files:
        foreign.write_bytes("artifacts/model/model.pkl", b"of another program")
    client = connect(workspace)
    made = client.create_model_version("recmeta", source=foreign.path)
    client.set_registered_model_alias("recmeta", versions.CHAMPION, made.version)
    version = versions.in_use(workspace)
    with pytest.raises(UserError, match=f"not trained by recmeta.*--model-version: {ours}"):
        versions.model_folder(workspace, version)
