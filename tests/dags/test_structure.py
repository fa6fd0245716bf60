"""The DAG files parse fast and clean, and have the shape that the docs promise."""

import ast
import subprocess
import sys
from typing import Any

import pytest
from airflow_process import DAGS, AirflowProcess

from recmeta.orchestration.runbook import FAILED
from recmeta.orchestration.shape import HOURS

FILES = sorted(DAGS.glob("*.py"))
CLI_STEPS = {
    "ingest",
    "materialise-features",
    "build-tasks",
    "meta-train",
    "evaluate",
    "register",
    "adapt",
    "score",
}

DESCRIBE = """
import time
from airflow.dag_processing.dagbag import DagBag
begin = time.process_time()  # others may keep this machine busy
bag = DagBag()
seconds = time.process_time() - begin
answer({
    "seconds": seconds,
    "errors": bag.import_errors,
    "warnings": {file: list(found) for file, found in bag.captured_warnings.items()},
    "dags": {
        name: {
            "doc": dag.doc_md,
            "params": {name: dag.params.get_param(name).schema for name in dag.params},
            "partitioned": "Partition" in type(dag.timetable).__name__,
            "inlets": sorted(asset.name for asset in dag.timetable.asset_condition.objects)
            if dag.timetable.asset_condition else [],
            "catchup": dag.catchup,
            "deadline": dag.deadline and dag.deadline[0].interval.total_seconds(),
            "tasks": {
                task.task_id: {
                    "downstream": sorted(task.downstream_task_ids),
                    "outlets": [asset.name for asset in task.outlets],
                    "pool": task.pool,
                    "retries": task.retries,
                    "backoff": task.retry_exponential_backoff,
                    "timeout": task.execution_timeout.total_seconds(),
                    "callback": bool(task.on_failure_callback),
                    "mapped": "Mapped" in type(task).__name__,
                }
                for task in dag.tasks
            },
        }
        for name, dag in bag.dags.items()
    },
})
"""


@pytest.fixture(scope="module")
def bag(airflow: AirflowProcess) -> dict[str, Any]:
    found: dict[str, Any] = airflow.ask(DESCRIBE)
    return found


def test_all_files_parse_in_a_second_without_errors_or_warnings(bag: dict[str, Any]) -> None:
    assert bag["errors"] == {}
    assert bag["warnings"] == {}
    assert set(bag["dags"]) == {file.stem for file in FILES}
    assert bag["seconds"] < 1.0


def test_the_steps_of_the_command_line_are_tasks_of_the_same_names(bag: dict[str, Any]) -> None:
    tasks = {task for dag in bag["dags"].values() for task in dag["tasks"]}
    assert tasks >= CLI_STEPS
    shown = subprocess.run(
        [sys.executable, "-m", "recmeta.cli", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(f" {step} " in shown for step in CLI_STEPS)


@pytest.mark.parametrize(
    ("dag", "inlets", "outlets"),
    [
        ("build_tasks", [], {"interactions", "tasks", "new_users"}),
        ("meta_train", ["retraining_request", "tasks"], {"champion_model"}),
        ("cold_start_scoring", ["champion_model", "new_users"], set()),
        ("maintenance", [], {"retraining_request"}),
    ],
)
def test_dags_follow_each_other_through_assets(
    bag: dict[str, Any], dag: str, inlets: list[str], outlets: set[str]
) -> None:
    found = bag["dags"][dag]
    assert found["inlets"] == inlets
    assert {name for task in found["tasks"].values() for name in task["outlets"]} == outlets
    assert found["partitioned"] == (dag != "maintenance")
    assert not found["catchup"]


def test_order_of_the_tasks(bag: dict[str, Any]) -> None:
    dags = {name: dag["tasks"] for name, dag in bag["dags"].items()}

    def edges(dag: str) -> set[tuple[str, str]]:
        return {(a, b) for a, task in dags[dag].items() for b in task["downstream"]}

    assert {
        ("wait-for-log", "ingest"),
        ("ingest", "check-data-quality"),
        ("check-data-quality", "materialise-features"),
        ("materialise-features", "build-tasks"),
        ("check-data-quality", "find-new-users"),
    } <= edges("build_tasks")
    assert {
        ("is-due", "meta-train"),
        ("meta-train", "evaluate"),
        ("evaluate", "gate"),
        ("gate", "register"),
        ("gate", "register-challenger"),
    } <= edges("meta_train")
    assert {
        ("choose-model", "shard-new-users"),
        ("shard-new-users", "adapt"),
        ("adapt", "score"),
        ("score", "audit"),
        ("audit", "publish"),
    } <= edges("cold_start_scoring")
    assert {("drift", "needs-retraining"), ("needs-retraining", "request-retraining")} <= edges(
        "maintenance"
    )
    mapped = {name for name, task in dags["cold_start_scoring"].items() if task["mapped"]}
    assert mapped == {"adapt", "score"}


def test_every_task_retries_with_backoff_times_out_and_tells_of_failure(
    bag: dict[str, Any],
) -> None:
    for dag in bag["dags"].values():
        for name, task in dag["tasks"].items():
            assert task["timeout"] > 0
            assert task["callback"]
            assert name == "wait-for-log" or (task["retries"] >= 1 and task["backoff"] > 1)
    training = bag["dags"]["meta_train"]["tasks"]
    assert training["meta-train"]["pool"] == training["evaluate"]["pool"] == "recmeta_gpu"
    for task in ("ingest", "build-tasks"):
        assert bag["dags"]["build_tasks"]["tasks"][task]["pool"] == "recmeta_tables"


def test_the_runbook_and_the_time_limits_know_every_task(bag: dict[str, Any]) -> None:
    tasks = {task for dag in bag["dags"].values() for task in dag["tasks"]}
    assert set(FAILED) == set(HOURS) == tasks
    for dag in bag["dags"].values():
        for name, task in dag["tasks"].items():
            assert task["timeout"] == HOURS[name] * 3600
        assert dag["deadline"] is None


def test_every_dag_is_documented_and_its_params_are_typed(bag: dict[str, Any]) -> None:
    for dag in bag["dags"].values():
        assert len(dag["doc"]) > 200
        for schema in dag["params"].values():
            assert schema["type"]
            assert schema["title"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_dag_files_import_the_sdk_and_names_only(file: Any) -> None:
    allowed = ("airflow.sdk", "recmeta.orchestration", "datetime")
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Import):
            assert all(alias.name.startswith(allowed) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert str(node.module).startswith(allowed)


def test_parsing_imports_nothing_heavy_and_reads_no_setting(airflow: AirflowProcess) -> None:
    loaded = airflow.ask(
        """
import sys
from airflow.dag_processing.dagbag import DagBag
assert DagBag().import_errors == {}
heavy = ("torch", "polars", "pandas", "mlflow", "deltalake", "pyarrow", "matplotlib", "feast")
answer([name for name in heavy if name in sys.modules])
""",
        RECMETA_WORKSPACE="no://such place",
        RECMETA_MAPPING="no such file",
    )
    assert loaded == []


def test_several_workspaces_have_dags_assets_limits_and_deadlines_of_their_own(
    airflow: AirflowProcess,
) -> None:
    found = airflow.ask(
        DESCRIBE,
        RECMETA_WORKSPACES="shop, books",
        RECMETA_TIME_LIMITS="ingest=6, wait-for-log=2.5",
        RECMETA_LATE_AFTER="8",
    )
    assert found["errors"] == {}
    own = {f"{name}.{file.stem}" for name in ("shop", "books") for file in FILES}
    assert set(found["dags"]) == own
    shop = found["dags"]["shop.build_tasks"]
    assert {n for task in shop["tasks"].values() for n in task["outlets"]} == {
        "shop.interactions",
        "shop.tasks",
        "shop.new_users",
    }
    assert found["dags"]["shop.meta_train"]["inlets"] == ["shop.retraining_request", "shop.tasks"]
    assert shop["tasks"]["ingest"]["pool"] == "recmeta_tables_shop"
    assert found["dags"]["books.build_tasks"]["tasks"]["ingest"]["pool"] == "recmeta_tables_books"
    assert shop["tasks"]["ingest"]["timeout"] == 6 * 3600
    assert shop["tasks"]["wait-for-log"]["timeout"] == 2.5 * 3600
    assert shop["tasks"]["build-tasks"]["timeout"] == HOURS["build-tasks"] * 3600
    late = {name: dag["deadline"] for name, dag in found["dags"].items() if dag["deadline"]}
    assert late == {
        f"{name}.{dag}": 8 * 3600
        for name in ("shop", "books")
        for dag in ("build_tasks", "cold_start_scoring")
    }
