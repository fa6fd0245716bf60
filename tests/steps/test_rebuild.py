"""A model that is trained again from the record of its run alone."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable, write_deltalake
from trained import Trained

from recmeta import schema
from recmeta.errors import UserError
from recmeta.recipes import default
from recmeta.registry.models import versions
from recmeta.registry.tracking import connect
from recmeta.steps.data import build_tasks
from recmeta.steps.learning import evaluate, meta_train, rebuild, register
from recmeta.workspace import Workspace


@pytest.fixture(name="trained")
def _trained(trained: Trained) -> Trained:
    """The workspace with MLflow's database opened anew: the file was replaced under its feet."""
    client = connect(trained.workspace)
    for store in (client._tracking_client.store, client._get_registry_client().store):
        store.engine.dispose()
    return trained


def run_of(trained: Trained) -> str:
    run_id: str = trained.model.outputs.run_id
    return run_id


def files(workspace: Workspace) -> dict[str, bytes]:
    """Return every file of a workspace but MLflow's, whose database a nested run is added to, and
    but this process's temporary ones."""
    root = Path(workspace.path)
    found = (p for p in root.rglob("*") if p.is_file() and not p.name.startswith("mlflow.db"))
    paths = (p for p in found if not {"mlartifacts", ".tmp"} & set(p.parts))
    return {str(p.relative_to(root)): p.read_bytes() for p in paths}


def page(workspace: Workspace, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = connect(workspace).get_run(run_id).to_dictionary()
    return found


def test_the_record_alone_gives_the_same_metrics(trained: Trained) -> None:
    """The tables have moved on, and tasks, model, report and manifests are gone."""
    workspace, run_id = trained.workspace, run_of(trained)
    then = trained.tasks.inputs["interactions"]
    assert DeltaTable(workspace.table_uri(schema.INTERACTIONS)).version() > then
    for name in ("tasks", "models", "reports", "manifests"):
        shutil.rmtree(Path(workspace.path) / name)
    before, page_before = files(workspace), page(workspace, run_id)
    registered = versions.versions(workspace)

    found = rebuild.run(workspace, run_id)
    assert found.reproduced
    assert all(metric.recorded == metric.rebuilt for metric in found.metrics.values())
    recorded = connect(workspace).get_run(run_id).data.metrics
    assert {"mae.maml", "mae.item-mean", "ndcg_at_5.mf-fold-in", "dev_loss"} <= set(found.metrics)
    for name, metric in found.metrics.items():
        assert recorded[name] == metric.rebuilt
    assert found.warnings == () or all("committed" in w for w in found.warnings)

    assert files(workspace) == before
    assert page(workspace, run_id) == page_before
    assert versions.versions(workspace) == registered
    nested = connect(workspace).get_run(found.rebuild_run_id)
    assert nested.info.status == "FINISHED"
    assert nested.data.tags["mlflow.parentRunId"] == run_id
    assert nested.data.tags["recmeta.rebuild_of"] == run_id
    assert nested.data.tags["recmeta.reproduced"] == "true"
    assert nested.data.metrics["mae.maml"] == recorded["mae.maml"]


def test_the_rebuilt_model_can_be_kept(trained: Trained, tmp_path: Path) -> None:
    into = tmp_path / "rebuilt"
    found = rebuild.run(trained.workspace, run_of(trained), into=str(into))
    assert found.folder == str(into)
    original = trained.workspace / trained.model.outputs.model
    kept = Workspace(into) / rebuild.MODEL
    for name in ("model.safetensors", "encoder.arrow", "items.arrow", "statistics.arrow"):
        assert kept.read_bytes(name) == original.read_bytes(name)
    with pytest.raises(UserError, match="is not empty"):
        rebuild.run(trained.workspace, run_of(trained), into=str(into))


def test_a_model_that_went_on_from_the_champion(trained: Trained) -> None:
    workspace = trained.workspace
    recipe = default()
    training = dataclasses.replace(recipe.train.training, epochs=2)
    config = dataclasses.replace(recipe.train, training=training, start="champion")
    tasks = build_tasks.run(recipe.tasks, workspace)
    model = meta_train.run(config, workspace, tasks, device="cpu")
    judged = dataclasses.replace(
        recipe.evaluate, baselines=("item-mean", "popularity", "mf-fold-in")
    )
    report = evaluate.run(judged, workspace, tasks, model, device="cpu")
    register.run(workspace, report, force=True)
    for name in ("tasks", "models"):
        shutil.rmtree(Path(workspace.path) / name)
    found = rebuild.run(workspace, model.outputs.run_id)
    assert found.reproduced
    assert "mae.champion" in connect(workspace).get_run(model.outputs.run_id).data.metrics
    assert "mae.champion" not in found.metrics


def test_another_result_is_told_metric_by_metric(trained: Trained) -> None:
    """The record says something else, as if the code had changed."""
    workspace, run_id = trained.workspace, run_of(trained)
    client = connect(workspace)
    report = trained.workspace / "reports"
    evaluation = (report / report.names()[0]).read_json("evaluation.json")
    evaluation["metrics"]["maml"]["mae"] += 0.01
    client.log_dict(run_id, evaluation, "evaluation/evaluation.json")
    libraries = {"torch": "2.0.0", "python": "3.11.0"}
    client.log_dict(run_id, libraries, "environment.json")
    client.set_tag(run_id, "mlflow.source.git.commit", "c0ffee")
    client.set_tag(run_id, "recmeta.threads", "64")

    found = rebuild.run(workspace, run_id)
    assert not found.reproduced
    assert [name for name, metric in found.metrics.items() if not metric.equal] == ["mae.maml"]
    said = " ".join(found.warnings)
    for part in ("torch 2.0.0 then", "polars not installed then", "commit c0ffee then", "64 then"):
        assert part in said
    nested = client.get_run(found.rebuild_run_id)
    assert nested.data.tags["recmeta.reproduced"] == "false"
    assert rebuild.run(workspace, run_id, tolerance=0.02).reproduced


def test_a_vacuumed_table_is_said_before_anything_is_trained(trained: Trained) -> None:
    workspace, run_id = trained.workspace, run_of(trained)
    table = DeltaTable(workspace.table_uri(schema.INTERACTIONS))
    table.optimize.compact()
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    nested = "tags.`mlflow.parentRunId` = '" + run_id + "'"
    experiment = connect(workspace).get_run(run_id).info.experiment_id
    before = len(connect(workspace).search_runs([experiment], nested))
    with pytest.raises(UserError, match=r"version \d+ of the table .*interactions is gone.*files"):
        rebuild.run(workspace, run_id)
    shutil.rmtree(Path(workspace.path) / "tables" / "users")
    with pytest.raises(UserError, match="is gone"):
        rebuild.run(workspace, run_id)
    assert len(connect(workspace).search_runs([experiment], nested)) == before


def test_another_table_in_the_same_place_is_not_taken_for_it(trained: Trained) -> None:
    uri = trained.workspace.table_uri(schema.INTERACTIONS)
    rows = DeltaTable(uri).to_pyarrow_table()
    shutil.rmtree(uri)
    for _ in range(3):
        write_deltalake(uri, rows, mode="overwrite")
    with pytest.raises(UserError, match="is not the table of that time"):
        rebuild.run(trained.workspace, run_of(trained))


def test_a_workspace_that_has_moved(trained: Trained, tmp_path: Path) -> None:
    """The record names the old place of the tables; MLflow's database moves with the workspace."""
    shutil.copytree(trained.workspace.path, tmp_path / "moved")
    shutil.rmtree(Path(trained.workspace.path) / "tables")
    assert rebuild.run(Workspace(tmp_path / "moved"), run_of(trained)).reproduced


def test_what_is_no_training_cannot_be_rebuilt(trained: Trained) -> None:
    workspace, run_id = trained.workspace, run_of(trained)
    client = connect(workspace)
    with pytest.raises(UserError, match="has no run 0123abcd"):
        rebuild.run(workspace, "0123abcd")
    experiment = client.get_run(run_id).info.experiment_id
    (nested, *_) = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'")
    with pytest.raises(UserError, match=f"nested in the run {run_id}"):
        rebuild.run(workspace, nested.info.run_id)
    with pytest.raises(UserError, match=r"tolerance is -1\.0"):
        rebuild.run(workspace, run_id, tolerance=-1.0)
    client.delete_tag(run_id, "recmeta.primary_metric")
    with pytest.raises(UserError, match="has no evaluation"):
        rebuild.run(workspace, run_id)
