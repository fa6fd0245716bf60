"""The whole pipeline with everything in an object store, MLflow's artifacts too."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import polars as pl
import pytest
from cli_calls import Call, run_arguments
from object_store import BUCKET, CREDENTIALS, free_port, object_store, wait_for

from recmeta import schema
from recmeta.workspace import Workspace

pytestmark = pytest.mark.timeout(300)
LOCATION = f"s3://{BUCKET}/ws"


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An object store, and an MLflow server that keeps its artifacts there."""
    with object_store() as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        port = free_port()
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        command += ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
        command += ["--artifacts-destination", f"s3://{BUCKET}/mlflow"]
        with (tmp_path / "mlflow.log").open("wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for(port, server)
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
            yield address
        finally:
            server.terminate()
            server.wait()


@pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it")
@pytest.mark.slow
def test_a_whole_run_in_an_object_store(
    recmeta: Call, folder: Path, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [*run_arguments(folder, Path("ws"))]
    arguments[arguments.index(Path("ws"))] = LOCATION
    done = recmeta(*arguments, "--force", "--device", "cpu")
    assert done.code == 0, done.stderr
    lists = pl.read_delta(Workspace(LOCATION).table_uri(schema.RECOMMENDATIONS))
    assert lists[schema.USER_ID].n_unique() == done.json["tasks"]["tasks_test"]
    again = recmeta(*arguments, "--force", "--device", "cpu")
    assert all(again.json["reused"].values())
    assert again.json["metrics"] == done.json["metrics"]

    store = boto3.client("s3", endpoint_url=s3)
    keys = [entry["Key"] for entry in store.list_objects_v2(Bucket=BUCKET)["Contents"]]
    contents = {key: store.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}
    assert any(key.startswith("mlflow/") and key.endswith("model.safetensors") for key in keys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.log"]
    # Credentials are nowhere: not in a table, a manifest, a report or MLflow.
    secret = CREDENTIALS["AWS_SECRET_ACCESS_KEY"].encode()
    assert not [key for key, content in contents.items() if secret in content]
    assert secret not in (tmp_path / "mlflow.db").read_bytes()
