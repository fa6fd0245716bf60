"""A workspace that is moved, copied, mounted elsewhere or restored is whole, and alone."""

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import sys
import threading
import time
import tomllib
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
import pyarrow.parquet as pq
import pytest
from counting import ALL, Faults
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.models import Model as MLflowModel
from mlflow_server import serving
from running import NEW, recmeta, run

from recmeta.logs.mapping import LogMapping
from recmeta.metalearn.model import Model
from recmeta.registry import artifacts, old_locations, tracking
from recmeta.registry.models import versions
from recmeta.registry.models.files import MODEL_FILES
from recmeta.registry.models.logged_model import MODEL_KEY
from recmeta.registry.models.packaging import package
from recmeta.serving.ranking import ScoringConfig
from recmeta.steps.data import ingest
from recmeta.steps.serving import adapt, score
from recmeta.workspace import Folder, Workspace

ROOT = Path(__file__).parents[2]
slow = pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it")


def digest(folder: Path) -> dict[str, str]:
    """Return what each file of a folder is, and when it was written."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): f"{hashlib.sha256(path.read_bytes()).hexdigest()} "
        f"{path.stat().st_mtime_ns}"
        for path in files
    }


def moved(here: Path) -> Path:
    return Path(shutil.move(here / "ws", here.parent / "elsewhere"))


def copied(here: Path) -> Path:
    return shutil.copytree(here / "ws", here / "a-copy")


def by_a_link(here: Path) -> Path:
    shutil.move(here / "ws", here / "real")
    (here / "linked").symlink_to(here / "real")
    return here / "linked"


def below_a_link(here: Path) -> Path:
    """As a folder that is mounted at two places."""
    (here / "mounted").mkdir()
    shutil.move(here / "ws", here / "mounted" / "ws")
    (here / "mount").symlink_to(here / "mounted")
    return here / "mount" / "ws"


def relative(here: Path) -> Path:
    shutil.move(here / "ws", here / "other")
    return Path("../here/./other")


PLACES: list[Callable[[Path], Path]] = [copied, moved, by_a_link, below_a_link, relative]


def test_every_command_works_at_another_place(faults: Faults, here: Path) -> None:
    kind = "a workspace that is moved, copied, linked, mounted or named otherwise"
    for number, place in enumerate(PLACES[: faults.number(1, len(PLACES))]):
        if number:
            shutil.rmtree(here / "ws", ignore_errors=True)
            shutil.copytree(here / "kept", here / "ws")
        else:
            shutil.copytree(here / "ws", here / "kept")
        is_copy = place is copied
        workspace = place(here)
        named = f"{workspace}/" if number % 2 else str(workspace)
        before = digest(here / "ws") if is_copy else {}
        faults.inject(kind)

        checks = {c["name"]: c for c in recmeta("doctor", "-w", named)["checks"]}
        faults.check("version 2 is champion" in checks["mlflow"]["found"], f"{named}: doctor")
        scored = recmeta("score", *NEW, "-w", named)
        faults.check(scored["model_version"] == "2", f"{named}: score")
        faults.check(bool(recmeta("explain", "u01", "i01", "-w", named)), f"{named}: explain")
        again = run(named, 1)
        faults.check(all(again["reused"].values()), f"{named}: {again['reused']}")
        faults.check(recmeta("rollback", "-w", named)["champion"] == "1", f"{named}: rollback")
        report = recmeta("report", "-w", named)["report"]
        faults.check(bool(report), f"{named}: report")
        if ALL:
            champion = versions.champion(Workspace(named))
            assert champion is not None
            rebuilt = recmeta("rebuild", champion.run_id, "-w", named)
            faults.check(rebuilt["reproduced"], f"{named}: rebuild")
        forgotten = recmeta("forget", "u01", "-w", named)
        faults.check(forgotten["interactions"] > 0, f"{named}: forget")
        faults.check(run(named, 2)["model_version"] == "3", f"{named}: training")
        if is_copy:
            faults.check(digest(here / "ws") == before, "the original was written to")


def texts(path: Path) -> Iterator[str]:
    """Yield the text in a file, also of databases and compressed tables."""
    if path.suffix == ".db":
        with sqlite3.connect(path) as connection:
            yield from connection.iterdump()
    elif path.suffix == ".parquet":
        yield from (str(column.to_pylist()) for column in pq.read_table(path).columns)
    elif path.parent.name == "_delta_log" and path.suffix == ".json":
        for line in path.read_text().splitlines():
            said = json.loads(line)
            # Delta writes down where a table was made, and never reads that.
            said.get("commitInfo", {}).get("operationParameters", {}).pop("location", None)
            yield json.dumps(said)
    else:
        yield path.read_bytes().decode("utf-8", errors="replace")


def test_nothing_in_a_workspace_says_where_it_is(faults: Faults, here: Path) -> None:
    recmeta("tune", "-w", "ws", "--learner", "bayesian-linear", "--epochs", 1, "--trials", 1)
    recmeta("evidence", "-w", "ws", "--strategy", "popularity")
    recmeta("materialise-features", "-w", "ws")
    recmeta("score", *NEW, "-w", "ws")
    files = sorted(path for path in (here / "ws").rglob("*") if path.is_file())
    kinds = {path.suffix for path in files}
    assert {".db", ".parquet", ".json", ".arrow", ".safetensors", ".md"} <= kinds
    faults.inject("a file that might name the workspace's place", len(files))
    for path in files:
        for text in texts(path):
            for place in (str(here), here.as_uri(), str(ROOT)):
                faults.check(place not in text, f"{path.relative_to(here)} names {place}")


def test_the_test_would_see_an_address(here: Path) -> None:
    database = here / "ws" / "mlflow.db"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE experiments SET artifact_location = ?", (here.as_uri(),))
    assert any(here.as_uri() in text for text in texts(database))


# Stores of older versions ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def old(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A workspace with a store such as older versions made, with MLflow alone, and its run's id.

    They gave MLflow the absolute address of the folder of artifacts.
    """
    root = tmp_path_factory.mktemp("old") / "first"
    shutil.copytree(made / "made", root, ignore=shutil.ignore_patterns("mlartifacts"))
    with sqlite3.connect(root / "mlflow.db") as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
            if table not in ("alembic_version", "experiments"):
                connection.execute(f"DELETE FROM {table}")
        connection.execute("DELETE FROM experiments WHERE name != 'Default'")
        location = f"{root.as_uri()}/mlartifacts/0"
        connection.execute("UPDATE experiments SET artifact_location = ?", (location,))
    uri = f"sqlite:///{root}/mlflow.db"
    client = MlflowClient(uri, uri)
    experiment = client.create_experiment("recmeta", f"{root.as_uri()}/mlartifacts")
    (key, *_) = sorted(path.name for path in (root / "models").iterdir())
    run_id = str(client.create_run(experiment, tags={"recmeta.key": key}).info.run_id)
    client.log_dict(run_id, {"seed": 1}, "config.json")
    logged = client.create_logged_model(experiment, name="recmeta", source_run_id=run_id)
    about = MLflowModel(artifact_path=logged.artifact_location, model_id=logged.model_id)
    packaged = root.parent / "packaging" / "packaged"
    packaged.parent.mkdir()
    package(Workspace(root) / "models" / key, packaged, about)
    client.log_model_artifacts(logged.model_id, str(packaged))
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    client.create_registered_model("recmeta")
    client.create_model_version("recmeta", logged.artifact_location, run_id, {MODEL_KEY: key})
    client.set_registered_model_alias("recmeta", "champion", "1")
    source = {"path": f"{root}/tables/interactions", "delta_table_version": 1}
    with sqlite3.connect(root / "mlflow.db") as connection:
        connection.execute(
            "INSERT INTO datasets (dataset_uuid, experiment_id, name, digest, dataset_source_type,"
            " dataset_source) VALUES ('d', ?, 'interactions', 'v1', 'delta_table', ?)",
            (int(experiment), json.dumps(source)),
        )
    said = "".join(texts(root / "mlflow.db"))
    assert said.count(f"{root.as_uri()}/mlartifacts") == 6
    return root, run_id


def test_old_stores_are_mended_when_they_are_opened(
    faults: Faults, old: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root, run_id = old
    before = digest(root)
    for place in ("copied", "copied twice", "moved", "where it was"):
        faults.inject("a store of an older version that was moved or copied")
        workspace = root
        if place != "where it was":
            workspace = Path(shutil.copytree(root, tmp_path / place.replace(" ", "-")))
        if place == "copied twice":
            workspace = Path(shutil.copytree(workspace, tmp_path / "again"))
        if place == "moved":
            root = Path(shutil.move(root, tmp_path / "away"))
        if place == "where it was":
            root = workspace = Path(shutil.move(root, old[0]))
        opened = Workspace(workspace)
        champion = versions.champion(opened)
        assert champion is not None
        folder = versions.model_folder(opened, champion)
        faults.check(Path(folder.path).is_relative_to(workspace), f"{place}: {folder.path}")
        faults.check(bool(Model.load(folder).params), f"{place}: no model")
        tracking.connect(opened).log_dict(run_id, {"seed": 2}, "config.json")
        written = workspace / "mlartifacts" / run_id / "artifacts" / "config.json"
        faults.check(json.loads(written.read_text()) == {"seed": 2}, f"{place}: written elsewhere")
        said = "".join(texts(workspace / "mlflow.db"))
        faults.check(str(old[0]) not in said, f"{place}: an address is left")
        faults.check(
            old_locations.make_relative(workspace / "mlflow.db") == 0, f"{place}: mended twice"
        )
        if place.startswith("copied"):
            faults.check(digest(root) == before, f"{place}: the original was written to")


def test_a_folder_of_artifacts_that_is_no_workspaces_stays(here: Path) -> None:
    shared = here / "shared" / "mlartifacts"
    shared.mkdir(parents=True)
    client = tracking.connect(Workspace("ws"))
    mine = client.create_experiment("mine", shared.as_uri())
    away = client.create_experiment("away", "file:///mnt/disk/mlruns/1")
    client = tracking.connect(Workspace("ws"))
    assert client.get_experiment(mine).artifact_location == shared.as_uri()
    assert client.get_experiment(away).artifact_location == "file:///mnt/disk/mlruns/1"


def test_an_old_store_that_cannot_be_written_stays(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE experiments (artifact_location)")
        location = f"{tmp_path.as_uri()}/mlartifacts"
        connection.execute("INSERT INTO experiments VALUES (?)", (location,))
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        old_locations._make_relative(connection, path)
    connection.close()


# What finds the artifacts ------------------------------------------------------------------------


def test_an_address_does_not_lead_out_of_the_artifacts(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    inside = artifacts.repository("mlflow-artifacts:/models/m-1", store)
    assert inside.artifact_dir == str(tmp_path / "mlartifacts" / "models" / "m-1")
    for address in ("mlflow-artifacts:/../secret", "mlflow-artifacts:/a/%2e%2e/%2e%2e/secret"):
        with pytest.raises(mlflow.exceptions.MlflowException, match="Invalid path"):
            artifacts.repository(address, store)
    served = artifacts.repository("mlflow-artifacts:/models/m-1", "http://mlflow.example/base")
    expected = "http://mlflow.example/base/api/2.0/mlflow-artifacts/artifacts/models/m-1"
    assert served.artifact_uri == expected


def test_mlflow_finds_it_by_an_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["mlflow.artifact_repository"]
    assert points == {artifacts.SCHEME: f"{artifacts.__name__}:{artifacts.repository.__name__}"}


@slow
def test_the_page_of_mlflow_shows_what_was_moved(here: Path) -> None:
    """Also to who knows the server alone, and without recmeta's artifact repository."""
    workspace = Workspace(moved(here))
    champion = versions.champion(workspace)
    assert champion is not None
    command = tracking.server_command(workspace).split()
    with serving([sys.executable, "-m", *command, "--workers", "1"], here) as address:
        query = urllib.parse.urlencode({"run_uuid": champion.run_id, "path": "config.json"})
        with urllib.request.urlopen(f"{address}/get-artifact?{query}", timeout=30) as answer:
            assert "training" in json.load(answer)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", address)
            patch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", None)
            loaded = mlflow.pyfunc.load_model("models:/recmeta@champion")
            lists = loaded.predict(pd.read_csv("new.csv"), params={"top_k": 3})
            assert list(lists["rank"]) == [1, 2, 3]
            folder = versions.model_folder(workspace, champion)
            assert Path(folder.path).is_relative_to(Path(workspace.path) / ".tmp")
            assert Model.load(Folder.at(folder.path)).params


def test_the_doctor_sees_that_a_models_files_are_gone(faults: Faults, here: Path) -> None:
    found = sorted((here / "ws/mlartifacts/models").glob("*/artifacts/artifacts/model/*.*"))
    found = [path for path in found if path.name in MODEL_FILES]
    for path in found[: faults.number(2, len(found))]:
        faults.inject("a registered model's file that is deleted")
        content = path.read_bytes()
        path.unlink()
        checks = {c["name"]: c for c in recmeta("doctor", "-w", "ws", code=2)["checks"]}
        faults.check(path.name in checks["outputs"]["found"], checks["outputs"]["found"])
        path.write_bytes(content)
    shutil.move(here / "ws" / "mlartifacts", here / "elsewhere")
    checks = {c["name"]: c for c in recmeta("doctor", "-w", "ws", code=2)["checks"]}
    faults.check("lacks model.safetensors" in checks["outputs"]["found"], "all are gone")


# Backups -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def writing_to(workspace: Path, log: Path) -> Iterator[None]:
    """Within the block, and until all is done, ingest, score, and change MLflow's database."""
    mapping = LogMapping(path=str(log), time_col="timestamp", value_col="value")
    adapted = adapt.run(LogMapping(path="new.csv", value_col="value"), Workspace(workspace))
    ended = threading.Event()

    def write() -> None:
        ingest.run(mapping, Workspace(workspace, wait=60))
        score.run(ScoringConfig(), Workspace(workspace, wait=60), adapted, device="cpu")

    def keep_busy() -> None:
        with contextlib.closing(sqlite3.connect(workspace / "mlflow.db", timeout=60)) as busy:
            busy.execute("CREATE TABLE IF NOT EXISTS busy (n)")
            while not ended.is_set():
                busy.execute("INSERT INTO busy VALUES (zeroblob(20000))")
                busy.commit()
                time.sleep(0.001)

    with ThreadPoolExecutor(2) as pool:
        doings = [pool.submit(write), pool.submit(keep_busy)]
        try:
            yield
            doings[0].result()
        finally:
            ended.set()
        doings[1].result()


def test_a_backup_while_others_write_restores_to_a_whole_workspace(
    faults: Faults, here: Path
) -> None:
    for number in range(faults.number(1, 10)):
        faults.inject("a backup while another command writes")
        more = here / "more.csv"
        more.write_text(f"user_id,item_id,timestamp,value\nn{number},i01,1607623964,5\n")
        backup = here / f"backup-{number}"
        with writing_to(here / "ws", more):
            recmeta("backup", backup, "-w", "ws", "--wait", 60)
        restored = Path(shutil.copytree(backup, here.parent / f"restored-{number}"))
        shutil.rmtree(backup)
        with contextlib.closing(sqlite3.connect(restored / "mlflow.db")) as connection:
            (state,) = connection.execute("PRAGMA integrity_check").fetchone()
        faults.check(state == "ok", f"mlflow.db: {state}")
        assert not {".locks", ".tmp"} & {path.name for path in restored.iterdir()}
        checks = {c["name"]: c for c in recmeta("doctor", "-w", restored, "--verify")["checks"]}
        faults.check(checks["outputs"]["status"] == "ok", checks["outputs"]["found"])
        faults.check(recmeta("score", *NEW, "-w", restored)["model_version"] == "2", "score")


def test_a_backup_goes_where_nothing_is(here: Path) -> None:
    assert "exists already" in recmeta("backup", here, "-w", "ws", code=2)["error"]
    assert "lies in the workspace" in recmeta("backup", "ws/copy", "-w", "ws", code=2)["error"]
    assert "no workspace" in recmeta("backup", "copy", "-w", "none", code=2)["error"]
    assert not (here / "none").exists()
