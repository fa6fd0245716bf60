"""Every command that the images are given, run in a plain environment on a real PostgreSQL.

What a container would give them is put in its place: ports that are free, and folders for volumes.
"""

import base64
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from deployment import DEPLOY, command_of, compose, env_of, files_of_secrets, stages
from postgresql import postgresql

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it"),
]
BIN = Path(sys.executable).parent
PATIENCE = 300


class Machine:
    """The services of the Compose file, one process each, in a folder."""

    def __init__(self, folder: Path, postgres: str) -> None:
        self.folder = folder
        self.found = compose()
        self.log = folder / "log"
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        place = postgres.partition("@")[2]
        self.ports = {str(port): str(_free_port()) for port in (8080, 8974, 5000, 8000)}
        files = files_of_secrets()
        # Its authentication is `trust`: the passwords are sent and not looked at.
        self.secrets = {n: text.replace("postgres:5432", place) for n, text in files.items()}
        (folder / "mlflow_auth.ini").write_text(self.secrets["mlflow_auth.ini"])
        for name in ("workspace", "mlartifacts", "home", "project", "auth"):
            (folder / name).mkdir()
        self.postgres = {"PGHOST": place.split(":")[0], "PGPORT": place.split(":")[1]}

    def here(self, text: str) -> str:
        """Return a part of a command, or a setting, as it is on this machine."""
        text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
        text = text.replace("0.0.0.0", "127.0.0.1")
        hosts = r"(?<=//)(mlflow|airflow-api-server|localhost)(?=:\d+(/|$))"
        text = re.sub(hosts, "127.0.0.1", text)
        for port, free in self.ports.items():
            text = re.sub(rf"(?<=[:=]){port}\b|^{port}$", free, text)
        for path in ("/workspace", "/mlartifacts", "/project"):
            text = re.sub(rf"(?<![\w/]){path}\b", f"{self.folder}{path}", text)
        text = text.replace("/opt/airflow/auth", f"{self.folder}/auth")
        text = text.replace("/tmp/pools.json", f"{self.folder}/pools.json")
        return text.replace("/run/secrets/mlflow_auth", f"{self.folder}/mlflow_auth.ini")

    def env(self, name: str) -> dict[str, str]:
        """Return the environment of a service: the image's, its settings and its secrets."""
        service = self.found["services"][name]
        target = service.get("build", {}).get("target", "pipeline")
        image = " ".join(
            rest for i, rest in [*stages()["runtime"], *stages()[target]] if i == "ENV"
        )
        given = dict(part.split("=", 1) for part in image.split())
        for file in service.get("env_file", []):
            given |= env_of(self.secrets[Path(file).name])
        given |= service.get("environment", {})
        given |= {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "HOME": str(self.folder / "home"),
            "AIRFLOW_HOME": str(self.folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DEPLOY.parent / "dags"),
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": self.ports["8974"],
            "PYTHONPATH": f"{DEPLOY.parent}:{os.environ.get('PYTHONPATH', '')}",
            "OMP_NUM_THREADS": "1",
        }
        return {key: self.here(str(value)) for key, value in given.items()}

    def command(self, name: str) -> list[str]:
        """Return what a service runs: its own command, else its image's."""
        service = self.found["services"][name]
        if "command" in service:
            return [self.here(part) for part in command_of(service["command"])]
        image = dict(stages()[service["build"]["target"]])
        command = [*command_of(image["ENTRYPOINT"]), *command_of(image["CMD"])]
        # The image listens at the port that it exposes, which is the default.
        return [*map(self.here, command), "--port", self.ports["8000"]]

    def run(self, name: str) -> None:
        """Run a service that ends."""
        done = subprocess.run(
            self.command(name), env=self.env(name), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    def start(self, name: str) -> None:
        """Start a service that serves."""
        with self.log.open("ab") as log:
            self.running[name] = subprocess.Popen(
                self.command(name),
                env=self.env(name),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def is_healthy(self, name: str) -> bool:
        """Return what the health check of a service says."""
        service = self.found["services"][name]
        if "healthcheck" in service:
            kind, *check = service["healthcheck"]["test"]
            assert kind == "CMD"
        else:
            text = dict(stages()[service["build"]["target"]])["HEALTHCHECK"]
            check = command_of(text.partition("CMD ")[2])
        done = subprocess.run(
            [re.sub(r"127\.0\.0\.1:(\d+)", lambda m: self.here(m[0]), part) for part in check],
            env=self.env(name),
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    def wait(self, name: str) -> None:
        """Wait until a service is healthy."""
        end = time.monotonic() + PATIENCE
        while not self.is_healthy(name):
            assert self.running[name].poll() is None, (name, self.log.read_text()[-4000:])
            assert time.monotonic() < end, (name, self.log.read_text()[-4000:])
            time.sleep(1)

    def stop(self) -> None:
        """End what was started."""
        for process in self.running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
        for process in self.running.values():
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    pytest.importorskip("flask_wtf", reason="mlflow[auth] is not installed: recmeta[deploy]")
    with postgresql() as address:
        made = Machine(tmp_path_factory.mktemp("machine"), address)
        env = {**os.environ, **made.postgres, **env_of(made.secrets["postgres.env"])}
        env["POSTGRES_USER"] = "recmeta"
        subprocess.run([str(DEPLOY / "postgres" / "databases.sh")], env=env, check=True)
        try:
            yield made
        finally:
            made.stop()


def test_the_whole_of_it_starts_in_order_and_is_healthy(machine: Machine) -> None:
    machine.start("mlflow")
    assert not machine.is_healthy("mlflow")  # yet
    machine.wait("mlflow")
    mlflow = f"http://127.0.0.1:{machine.ports['5000']}"
    with pytest.raises(HTTPError, match="401"):
        urlopen(f"{mlflow}/api/2.0/mlflow/experiments/search?max_results=1", timeout=60)
    for _ in range(2):  # migrations may run again
        machine.run("airflow-init")
    assert_reads_and_does_not_write(mlflow, machine.env("endpoint"))
    airflow = ["api-server", "scheduler", "dag-processor", "triggerer"]
    for name in airflow:
        machine.start(f"airflow-{name}")
    machine.start("endpoint")
    machine.wait("endpoint")
    for name in airflow:
        machine.wait(f"airflow-{name}")
    base = f"http://127.0.0.1:{machine.ports['8000']}"
    for path, status in (("/readyz", 503), ("/metrics", 401)):  # no champion yet; no key
        with pytest.raises(HTTPError) as refused:
            urlopen(f"{base}{path}", timeout=60)
        assert refused.value.code == status


def assert_reads_and_does_not_write(mlflow: str, env: dict[str, str]) -> None:
    """Log in at MLflow as the endpoint does."""
    name, password = env["MLFLOW_TRACKING_USERNAME"], env["MLFLOW_TRACKING_PASSWORD"]
    login = base64.b64encode(f"{name}:{password}".encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
    api = f"{mlflow}/api/2.0/mlflow"
    body = json.dumps({"name": "recmeta", "alias": "champion", "version": "1"}).encode()
    urlopen(Request(f"{api}/registered-models/search?max_results=1", headers=headers), timeout=60)
    with pytest.raises(HTTPError, match="403"):
        urlopen(Request(f"{api}/registered-models/alias", body, headers), timeout=60)


def test_a_service_that_is_gone_is_not_healthy(machine: Machine) -> None:
    process: Any = machine.running.pop("endpoint")
    os.killpg(process.pid, 15)
    assert process.wait(40) == 0
    assert not machine.is_healthy("endpoint")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
