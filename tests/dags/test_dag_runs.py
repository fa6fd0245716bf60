"""Every DAG, run whole on a tiny workspace without a scheduler."""

import dataclasses
import datetime
import json
from mailbox import mailbox, text_of
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from airflow_process import AirflowProcess
from tiny import Tiny, make

from recmeta import schema
from recmeta.steps.serving.publish import lists_of
from recmeta.workspace import Workspace

RUN = """
import sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag()
results = []
for name, conf in {runs!r}:
    try:
        run = bag.dags[name].test(run_conf=conf)
    except Exception as error:
        results.append({{"state": "refused", "error": str(error)}})
        continue
    states = {{}}
    for ti in run.get_task_instances():
        states.setdefault(ti.task_id, []).append(str(ti.state))
    results.append({{"state": str(run.state), "tasks": states}})
answer(results)
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make(tmp_path_factory.mktemp("tiny"))


def run(airflow: AirflowProcess, tiny: Tiny, *runs: tuple[str, dict[str, Any]]) -> list[Any]:
    results: list[Any] = airflow.ask(RUN.format(runs=list(runs)), **tiny.env)
    return results


@pytest.fixture(scope="module")
def results(airflow: AirflowProcess, tiny: Tiny) -> list[Any]:
    day = tiny.days[-1].isoformat()
    return run(
        airflow,
        tiny,
        ("cold_start_scoring", {}),
        ("build_tasks", {}),
        ("build_tasks", {"date": day}),
        ("meta_train", {}),
        ("cold_start_scoring", {"date": day, "users_per_shard": 3}),
        ("cold_start_scoring", {"date": day, "users_per_shard": 3}),
        ("meta_train", {}),
        ("maintenance", {"date": day}),
        ("build_tasks", {"date": "2021-01-32"}),
    )


def test_all_runs_end_well(results: list[Any]) -> None:
    *ran, _ = results
    assert [result["state"] for result in ran] == ["success"] * 8, ran


def test_before_the_first_champion_nothing_is_scored(results: list[Any]) -> None:
    assert results[0]["tasks"]["publish"] == ["skipped"]


def test_without_a_date_the_oldest_day_that_is_due_is_built(results: list[Any], tiny: Tiny) -> None:
    assert results[1]["tasks"]["build-tasks"] == ["success"]
    ingested = sorted(path.stem for path in (tiny.workspace / "partitions").iterdir())
    assert ingested == [tiny.days[0].isoformat(), tiny.days[-1].isoformat()]


def test_the_gate_promotes_and_the_other_branch_is_skipped(results: list[Any]) -> None:
    tasks = results[3]["tasks"]
    assert tasks["register"] == ["success"]
    assert tasks["register-challenger"] == ["skipped"]


def test_a_second_training_is_not_due(results: list[Any]) -> None:
    assert results[6]["tasks"]["is-due"] == ["success"]
    assert results[6]["tasks"]["meta-train"] == ["skipped"]


def test_lists_are_made_shard_by_shard_and_published_together(
    results: list[Any], tiny: Tiny
) -> None:
    assert len(results[4]["tasks"]["adapt"]) > 1
    assert set(results[4]["tasks"]["score"]) == {"success"}
    workspace = Workspace(tiny.workspace)
    lists = lists_of(workspace, tiny.days[-1])
    new = (
        pl.read_delta(workspace.table_uri(schema.INTERACTIONS))
        .group_by("user_id")
        .agg(pl.col("timestamp").min().dt.date())
    )
    earliest = tiny.days[-1] - datetime.timedelta(days=29)
    expected = new.filter(pl.col("timestamp").is_between(earliest, tiny.days[-1]))["user_id"]
    assert set(lists["user_id"]) == set(expected)
    # The second run of the day changed nothing.
    assert lists.group_by("user_id").len()["len"].to_list() == [10] * len(expected)
    everything = pl.read_delta(workspace.table_uri(schema.RECOMMENDATIONS))
    assert everything.height == lists.height


def test_maintenance_reports_drift(results: list[Any], tiny: Tiny) -> None:
    report = tiny.workspace / "reports" / "drift" / tiny.days[-1].isoformat() / "drift.json"
    found = json.loads(report.read_text())
    assert found["model_version"] == "1"
    assert results[7]["tasks"]["drift"] == ["success"]


def test_a_bad_day_fails_at_once_and_is_told(airflow: AirflowProcess, tmp_path: Path) -> None:
    tiny = make(tmp_path)
    broken = tiny.mapping.parent / "days" / f"{tiny.days[0]}.parquet"
    pl.read_parquet(broken).with_columns(value=pl.lit("five stars")).write_parquet(broken)
    with mailbox() as (settings, letters):
        told = dataclasses.replace(airflow, env={**airflow.env, **settings})
        (result,) = run(told, tiny, ("build_tasks", {}))
    assert result["state"] == "failed"
    assert result["tasks"]["build-tasks"] == ["upstream_failed"]
    # A mistake that will not mend itself is not retried.
    alerts = [json.loads(path.read_text()) for path in (tiny.workspace / "alerts").iterdir()]
    assert [alert["task"] for alert in alerts] == ["ingest"]
    assert "unparsable_value" in alerts[0]["error"]
    assert alerts[0]["try"] == 1
    (letter,) = letters
    assert letter["Subject"].startswith("recmeta: build_tasks.ingest failed for good")
    assert "unparsable_value" in text_of(letter)
    assert "What to do: Fix the log or the mapping, then clear the task." in text_of(letter)


def test_params_are_validated(results: list[Any]) -> None:
    assert "'2021-01-32' is not a 'date'" in results[8]["error"]
