"""The alternative configurations against real servers, where they can be started."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from feature_repository import Repository
from test_repository import pairs

from recmeta import schema
from recmeta.features.feast_online import online_profiles
from recmeta.features.feast_repository import materialise, open_store
from recmeta.features.feast_skew import compare_online_offline, compare_views


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert server.poll() is None, "the server has ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise TimeoutError(f"no server on port {port}")


@pytest.fixture
def redis_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    pytest.importorskip("redis", reason="needs feast[redis]")
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed")
    port = free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    server = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        wait_for(port, server)
        monkeypatch.setenv("REDIS_URL", f"127.0.0.1:{port}")
        yield
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def postgres_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    pytest.importorskip("psycopg", reason="needs feast[postgres]")
    installed = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"))]
    if not installed:
        pytest.skip("PostgreSQL is not installed")
    binaries = installed[-1]
    # PostgreSQL does not run as root, and its user cannot enter pytest's folders.
    user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="recmeta-postgres-"))
    if user:
        shutil.chown(folder, "postgres")
    port = free_port()
    data = str(folder / "data")
    initialise = [str(binaries / "initdb"), "-D", data, "-A", "trust", "-U", "feast", "-N"]
    subprocess.run([*user, *initialise], check=True, stdout=subprocess.DEVNULL, cwd=folder)
    options = ["-D", data, "-p", str(port), "-k", str(folder), "-c", "listen_addresses=127.0.0.1"]
    log = (folder / "log").open("wb")
    server = subprocess.Popen(
        [*user, str(binaries / "postgres"), *options], stdout=log, stderr=log, cwd=folder
    )
    try:
        wait_for(port, server)
        settings = {"HOST": "127.0.0.1", "PORT": port, "DATABASE": "postgres", "SSLMODE": "disable"}
        for name, value in {**settings, "USER": "feast", "PASSWORD": "unused"}.items():
            monkeypatch.setenv(f"PG{name}", str(value))
        yield
    finally:
        server.terminate()
        server.wait()
        log.close()
        shutil.rmtree(folder)


def check(repository: Repository, configuration: str) -> None:
    """Apply the definitions to another configuration, materialise, and compare."""
    defined = repository.store()
    views = defined.list_feature_views()
    store = open_store(str(repository.folder / configuration))
    store.apply(
        [*defined.list_entities(), *views, defined.get_feature_service(schema.FEATURE_SERVICE)]
    )
    features = [f"{view.name}:{f.name}" for view in views if view.online for f in view.features]
    before = compare_online_offline(store, features, pairs(repository))
    assert before.share > 0.5  # nothing is online yet
    activity = pl.read_delta(repository.workspace.table_uri(schema.USER_ACTIVITY))
    newest = activity.sort(schema.TIMESTAMP).unique(schema.USER_ID, keep="last")
    before_late_rows = newest.with_columns(pl.lit(0).alias(schema.NUM_INTERACTIONS))
    store.write_to_online_store("user_activity", before_late_rows.to_pandas())
    materialise(store, before.as_of)
    after = compare_views(store)
    assert after.keys() == {view.name for view in views if view.online}
    assert all(report.differences.is_empty() for report in after.values())
    users = pa.array(pairs(repository)["user_id"].to_list())
    assert online_profiles(store, users).equals(online_profiles(defined, users))
    store.teardown()


@pytest.mark.usefixtures("redis_server")
def test_redis(repository: Repository) -> None:
    check(repository, "feature_store.redis.yaml")


@pytest.mark.usefixtures("postgres_server")
def test_postgresql(repository: Repository) -> None:
    check(repository, "feature_store.postgres.yaml")
