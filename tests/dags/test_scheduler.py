"""A real scheduler, API server and triggerer: assets carry a day from DAG to DAG."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import stat
from collections.abc import Iterator
from mailbox import mailbox, text_of
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import polars as pl
import psutil
import pytest
from airflow_api import AirflowApi, Run, wait_until
from airflow_process import DAGS
from object_store import free_port
from polars.testing import assert_frame_equal
from postgresql import postgresql
from tiny import Tiny, make, whole_log

from recmeta import schema
from recmeta.config import to_dict
from recmeta.features.feast_repository import open_store
from recmeta.features.feast_skew import compare_views
from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.logs.split_by_day import split_by_day
from recmeta.manifest import latest
from recmeta.orchestration.local import LocalConfig, airflow, serving
from recmeta.registry.models import versions
from recmeta.steps.data import build_tasks, ingest
from recmeta.steps.data.build_tasks import BuildTasksConfig
from recmeta.steps.serving import adapt
from recmeta.steps.serving.publish import lists_of
from recmeta.tasks.task_set import TaskSet
from recmeta.workspace import Workspace

pytestmark = pytest.mark.timeout(1500)
slow = pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it")
SHARED = Path(os.environ.get("RECMETA_SHARED_DATA", "../shared/data")).resolve()


@contextlib.contextmanager
def running(
    tiny: Tiny,
    monkeypatch: pytest.MonkeyPatch,
    feature_store: Path | None = None,
    **settings: str,
) -> Iterator[tuple[LocalConfig, AirflowApi, dict[str, str]]]:
    """Serve a tiny deployment; what Airflow needs comes from `serving`, as for `make airflow`."""
    for name in [n for n in os.environ if n.startswith(("AIRFLOW", "RECMETA_", "MLFLOW"))]:
        monkeypatch.delenv(name)
    store = settings.pop("mlflow_store", None)
    for name, value in {**tiny.env, **settings}.items():
        monkeypatch.setenv(name, value)
    config = LocalConfig(
        workspace=tiny.workspace,
        dags=DAGS,
        mapping=tiny.mapping,
        airflow_port=free_port(),
        mlflow_port=free_port(),
        mlflow_store=store,
        feature_store=feature_store,
    )
    with serving(config) as env:
        api = AirflowApi(config)
        yield config, api, env


def finished(
    api: AirflowApi, dag: str, partition: str | None = None, run_id: str | None = None
) -> list[Run]:
    """Return the runs of a DAG (for a day, or the one with the id) if there are any and all have
    ended well. Beside what a test triggers there may be a run of yesterday: shortly after midnight
    the scheduler makes up for it."""
    runs = [
        run
        for run in api.runs(dag)
        if (partition is None or run["partition_key"] == partition)
        and (run_id is None or run["dag_run_id"] == run_id)
    ]
    assert all(run["state"] != "failed" for run in runs), runs
    return runs if runs and all(run["state"] == "success" for run in runs) else []


def interactions(workspace: Path) -> pl.DataFrame:
    table = pl.read_delta(Workspace(workspace).table_uri(schema.INTERACTIONS))
    return table.drop(schema.SOURCE, schema.INGESTED_AT).sort(schema.INTERACTIONS.key)


def nobody_else_gets_in(config: LocalConfig) -> None:
    """Nothing listens to the network, Airflow wants its login, MLflow no page of elsewhere, and
    other accounts cannot read what the servers keep."""
    listening = [
        (" ".join(process.cmdline()), connection.laddr.ip)
        for process in psutil.Process().children(recursive=True)
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 2
    assert {address for _, address in listening} == {"127.0.0.1"}, listening
    asked = f"{config.mlflow_url}/api/2.0/mlflow/experiments/search?max_results=1"
    assert status_of(asked) == 200
    assert status_of(asked, Host="rebound.example") == 403
    assert status_of(f"{config.airflow_url}/api/v2/dags") == 401
    assert stat.S_IMODE(config.home.stat().st_mode) == 0o700
    for name in ("airflow.cfg", "airflow.db", config.passwords.name):
        assert stat.S_IMODE((config.home / name).stat().st_mode) == 0o600, name


def status_of(url: str, **headers: str) -> int:
    try:
        with urlopen(Request(url, headers=headers), timeout=60) as response:
            return int(response.status)
    except HTTPError as error:
        return error.code


def task_state(api: AirflowApi, dag: str, run_id: str, task: str) -> Run | None:
    return next((t for t in api.tasks(dag, run_id) if t["task_id"] == task), None)


def one_trigger_is_enough(
    tiny: Tiny, config: LocalConfig, api: AirflowApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trigger build_tasks; a model must be promoted and the day's new users get lists."""
    run_id = api.trigger("build_tasks", {})
    day = tiny.days[0].isoformat()
    wait_until("build_tasks", lambda: finished(api, "build_tasks", run_id=run_id))
    wait_until("meta_train", lambda: finished(api, "meta_train", day))
    workspace = Workspace(tiny.workspace)
    wait_until(
        "cold_start_scoring after the promotion",
        lambda: (
            finished(api, "cold_start_scoring", day) and lists_of(workspace, tiny.days[0]).height
        ),
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", config.mlflow_url)
    champion = versions.champion(workspace)
    assert champion is not None
    assert set(lists_of(workspace, tiny.days[0])[schema.MODEL_VERSION]) == {champion.version}


def killed_ingest_is_retried(tiny: Tiny, api: AirflowApi, tmp_path: Path) -> None:
    """Kill the process of a running ingest; its retry must finish with the right table."""
    run_id = api.trigger("build_tasks", {"date": tiny.days[1].isoformat()})

    def running_ingest() -> Run | None:
        task = task_state(api, "build_tasks", run_id, "ingest")
        return task if task and task["state"] == "running" and task["pid"] else None

    os.kill(wait_until("ingest runs", running_ingest)["pid"], signal.SIGKILL)

    def ended() -> Run | None:
        task = task_state(api, "build_tasks", run_id, "ingest")
        return task if task and task["state"] == "success" else None

    assert wait_until("the retry of ingest", ended)["try_number"] == 2
    wait_until("build_tasks", lambda: finished(api, "build_tasks", run_id=run_id))
    expected = Workspace(tmp_path / "never-killed")
    ingest.run(whole_log(tmp_path / "raw-again"), expected)
    late = pl.col(schema.TIMESTAMP).dt.date().is_in(tiny.days[2:])
    assert_frame_equal(
        interactions(tiny.workspace), interactions(Path(expected.location)).filter(~late)
    )


@slow
def test_one_trigger_gives_a_champion_and_lists_and_a_kill_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = make(tmp_path)
    definitions = shutil.ignore_patterns("data", "__*")
    features = shutil.copytree(DAGS.parent / "feature_store", tmp_path / "fs", ignore=definitions)
    with running(tiny, monkeypatch, features) as (config, api, _):
        nobody_else_gets_in(config)
        one_trigger_is_enough(tiny, config, api, monkeypatch)
        reports = compare_views(open_store(str(features)))
        assert reports["user_profile"].num_rows > 100
        assert sum(report.differences.height for report in reports.values()) == 0
        killed_ingest_is_retried(tiny, api, tmp_path)
    adapted = latest(Workspace(tiny.workspace), adapt.STEP)
    assert schema.FEATURE_SERVICE in adapted.inputs  # profiles came from the online store


@slow
def test_a_run_waits_for_its_log_without_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = make(tmp_path)
    log = tmp_path / "days" / f"{tiny.days[0]}.parquet"
    hidden = log.rename(tmp_path / "not yet.parquet")
    with running(tiny, monkeypatch) as (_, api, _env):
        for dag in ("meta_train", "cold_start_scoring"):
            api.pause(dag)
        run_id = api.trigger("build_tasks", {"date": tiny.days[0].isoformat()})

        def state() -> str | None:
            task = task_state(api, "build_tasks", run_id, "wait-for-log")
            return task and task["state"]

        wait_until("the task is deferred", lambda: state() == "deferred")
        assert not finished(api, "build_tasks")
        hidden.rename(log)
        wait_until("build_tasks", lambda: finished(api, "build_tasks"))
    assert interactions(tiny.workspace).height > 0


@slow
def test_on_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = make(tmp_path)
    with postgresql("airflow", "mlflow") as address:
        settings = {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"{address}/airflow",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"{address}/airflow",
            "mlflow_store": f"{address}/mlflow",
        }
        with running(tiny, monkeypatch, **settings) as (config, api, _):
            one_trigger_is_enough(tiny, config, api, monkeypatch)
    assert not (config.home / "airflow.db").exists()
    assert not (tiny.workspace / "mlflow.db").exists()


def movielens() -> LogMapping:
    folder = SHARED / "ml-100k"
    return LogMapping(
        path=str(folder / "interactions.parquet"),
        time_col="timestamp",
        value_col="rating",
        scale="1:5",
        users=AttributeSource(
            path=str(folder / "users.parquet"),
            id_col="user_id",
            columns={"age": Attribute(kind="numeric"), "gender": Attribute(kind="categorical")},
        ),
    )


@slow
@pytest.mark.skipif(not (SHARED / "ml-100k").exists(), reason="no shared data")
def test_a_backfill_of_ten_days_gives_the_tables_of_one_ingest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapping = movielens()
    split = split_by_day(mapping, str(tmp_path / "days"), num_days=10)
    assert split.history is not None
    whole, daily = Workspace(tmp_path / "whole"), Workspace(tmp_path / "workspace")
    ingest.run(mapping, whole)
    ingest.run(split.history, daily)
    file, config_file = tmp_path / "mapping.json", tmp_path / "config.toml"
    file.write_text(json.dumps(to_dict(split.daily)))
    config_file.write_text("")
    tiny = Tiny(workspace=tmp_path / "workspace", mapping=file, config=config_file, days=split.days)
    with running(tiny, monkeypatch) as (_, api, env):
        for dag in ("meta_train", "cold_start_scoring"):
            api.pause(dag)
        first, last = split.days[0].isoformat(), split.days[-1].isoformat()
        command = ("backfill", "create", "--dag-id", "build_tasks")
        airflow(env, *command, "--from-date", first, "--to-date", last)
        for day in split.days:
            wait_until(
                f"the run of {day}",
                lambda day=day: finished(api, "build_tasks", day.isoformat()),
                seconds=600,
            )
    assert_frame_equal(interactions(tmp_path / "workspace"), interactions(tmp_path / "whole"))
    for table in (schema.USERS, schema.QUARANTINE):
        one, other = (pl.read_delta(ws.table_uri(table)) for ws in (daily, whole))
        assert_frame_equal(one, other, check_row_order=False)
    sets = [
        TaskSet(ws / build_tasks.run(BuildTasksConfig(), ws).outputs.tasks) for ws in (daily, whole)
    ]
    one, other = (dataclasses.asdict(s.tasks("train").query) for s in sets)
    assert all((one[name] == other[name]).all() for name in one)
    assert sets[0].items().item_id.equals(sets[1].items().item_id)


@slow
def test_a_day_that_is_late_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = make(tmp_path)
    (tmp_path / "days" / f"{tiny.days[0]}.parquet").unlink()  # its log does not come
    with (
        mailbox() as (settings, letters),
        running(tiny, monkeypatch, RECMETA_LATE_AFTER="0.003", **settings) as (_, api, _),
    ):
        api.trigger("build_tasks", {"date": tiny.days[0].isoformat()})
        wait_until("the letter", lambda: letters)
    assert letters[0]["Subject"].startswith("recmeta: build_tasks is late")
    assert "wait-for-log" in text_of(letters[0])
    (alert,) = [json.loads(p.read_text()) for p in (tiny.workspace / "alerts").iterdir()]
    assert (alert["kind"], alert["dag"]) == ("late", "build_tasks")
