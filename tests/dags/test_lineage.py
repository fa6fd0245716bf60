"""What tasks read and left, as OpenLineage datasets."""

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from airflow_process import AirflowProcess
from tiny import make

from recmeta.manifest import Manifest
from recmeta.orchestration.lineage import inputs, named, outputs
from recmeta.steps.learning.register import RegisterOutputs

RUN = """
from airflow.dag_processing.dagbag import DagBag
run = DagBag().dags["build_tasks"].test(run_conf={"date": %r})
answer(str(run.state))
"""


def manifest(**given: Any) -> Manifest[Any]:
    plain: dict[str, Any] = {
        "step": "evaluate",
        "key": "k9",
        "config": {},
        "inputs": {},
        "outputs": {},
        "counts": {},
        "libraries": {},
        "git_commit": None,
        "finished_at": "",
        "seconds": 1.0,
    }
    return Manifest(**plain | given)


def test_tables_and_folders_come_with_their_versions() -> None:
    done = manifest(
        inputs={"interactions": 3, "tasks": "t1", "model": "m1", "champion": None, "source": "s"},
        digests={
            "tables/users": {"id": "x", "version": 7, "log": None},
            "reports/k9": "0123abcd",
        },
    )
    assert list(inputs(done, ["s3://logs/day=1/", "/data/items.csv"])) == [
        ("tables/interactions", "3"),
        ("tasks/t1", "t1"),
        ("models/m1", "m1"),
        ("s3://logs/day=1/", "s"),
        ("file:///data/items.csv", "s"),
    ]
    assert list(outputs(done)) == [("tables/users", "7"), ("reports/k9", "k9")]


def test_a_registered_model_is_a_dataset_of_mlflow() -> None:
    left = RegisterOutputs(model_version="4", promoted=True, decision="promoted", aliases=())
    done = manifest(step="register", inputs={"evaluation": "e1"}, outputs=left, digests={})
    assert list(inputs(done)) == [("reports/e1", "e1")]
    assert list(outputs(done)) == [("mlflow:/recmeta", "4")]


@pytest.mark.parametrize(
    ("address", "workspace", "expected"),
    [
        ("tables/users", "/ws", ("file", "/ws/tables/users")),
        ("tables/users", "s3://bucket/ws", ("s3://bucket", "ws/tables/users")),
        ("s3://logs/day=1/", "/ws", ("s3://logs", "day=1/")),
        ("file:///data/items.csv", "s3://bucket/ws", ("file", "/data/items.csv")),
        ("mlflow:/recmeta", "/ws", ("http://mlflow:5000", "models/recmeta")),
    ],
)
def test_datasets_are_named_as_openlineage_names_files(
    address: str, workspace: str, expected: tuple[str, str]
) -> None:
    assert named(address, workspace, "http://mlflow:5000") == expected


@pytest.mark.skipif(
    importlib.util.find_spec("airflow.providers.openlineage") is None,
    reason="apache-airflow-providers-openlineage is not installed: recmeta[lineage]",
)
def test_a_run_emits_what_it_read_and_left(airflow: AirflowProcess, tmp_path: Path) -> None:
    tiny = make(tmp_path)
    record = tmp_path / "lineage.jsonl"
    transport = {"type": "file", "log_file_path": str(record), "append": True}
    settings = {"AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport), **tiny.env}
    recorded = dataclasses.replace(airflow, env={**airflow.env, **settings})
    day = tiny.days[0].isoformat()
    assert recorded.ask(RUN % day) == "success"
    events = [json.loads(line) for line in record.read_text().splitlines()]
    found = {
        event["job"]["name"]: {
            way: {
                one["name"].removeprefix(str(tiny.workspace)): one["facets"]["version"][
                    "datasetVersion"
                ]
                for one in event[way]
            }
            for way in ("inputs", "outputs")
        }
        for event in events
        if event["eventType"] == "RUNNING"  # ours; the provider's own name assets and no versions
    }
    assert set(found) >= {f"build_tasks.{t}" for t in ("ingest", "build-tasks")}
    ingested, built = found["build_tasks.ingest"], found["build_tasks.build-tasks"]
    assert str(tmp_path / "days" / f"{day}.parquet") in ingested["inputs"]
    assert set(ingested["outputs"]) >= {"/tables/interactions", "/tables/users", "/tables/items"}
    assert built["inputs"]["/tables/interactions"] == ingested["outputs"]["/tables/interactions"]
    assert any(name.startswith("/tasks/") for name in built["outputs"])
