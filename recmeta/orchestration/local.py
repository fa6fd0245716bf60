"""Airflow and MLflow on one machine, for trying things out: `make airflow`.

    python -m recmeta.orchestration.local --workspace workspace-airflow

Everything lives in the workspace: Airflow's home with its SQLite database in `airflow`, MLflow's
database and artifacts beside the tables. Airflow's home, which holds its password and its keys, and
all files that the servers write are open only to the user who started them. Both servers listen on
the loopback address alone. Airflow asks for a login. MLflow has none, so that whoever has an
account on the machine can read and change its data. Without a mapping, MovieLens 100K is replayed
into a workspace that has no log yet: its last ten days become daily partitions, and older rows are
ingested at once.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from recmeta import extras
from recmeta.config import to_dict
from recmeta.errors import UserError
from recmeta.features.feast_repository import find
from recmeta.orchestration.pools import pools
from recmeta.registry import artifacts
from recmeta.registry.database import create_database
from recmeta.schema import INTERACTIONS
from recmeta.workspace import Workspace
from recmeta.workspace.privacy import PRIVATE, UMASK, make_private

AIRFLOW = (
    ("api-server", ("api-server",)),
    ("dag-processor", ("dag-processor",)),
    # Each has a server of its own for its log files, which listens on all addresses of the machine.
    # The API server reads the files themselves: they are on its disk.
    ("scheduler", ("scheduler", "--skip-serve-logs")),
    ("triggerer", ("triggerer", "--skip-serve-logs")),
)
"""The processes of Airflow by name, and how the `airflow` command starts each."""
NUM_REPLAYED_DAYS = 10
START_SECONDS = 180
STOP_SECONDS = 20


@dataclass(frozen=True, kw_only=True)
class LocalConfig:
    """Where things are and which ports they take."""

    workspace: Path
    """A local folder."""
    dags: Path
    """The folder with the DAG files."""
    mapping: Path
    """The log's mapping."""
    airflow_port: int = 8080
    mlflow_port: int = 5000
    feature_store: Path | None = None
    """A Feast repository; if None, no online features."""
    mlflow_store: str | None = None
    """MLflow's database, an SQLAlchemy address; if None, a SQLite file in the workspace."""

    @property
    def home(self) -> Path:
        """Airflow's home."""
        return self.workspace / "airflow"

    @property
    def passwords(self) -> Path:
        """The file in which Airflow's login manager keeps the password that it generated."""
        return self.home / "simple_auth_manager_passwords.json.generated"

    @property
    def airflow_url(self) -> str:
        """The address of Airflow's page."""
        return f"http://127.0.0.1:{self.airflow_port}"

    @property
    def mlflow_backend(self) -> str:
        """Address of the database of the MLflow server."""
        return self.mlflow_store or f"sqlite:///{self.workspace / 'mlflow.db'}"

    @property
    def mlflow_url(self) -> str:
        """The address of MLflow's page."""
        return f"http://127.0.0.1:{self.mlflow_port}"


def replayed_movielens(workspace: Path) -> Path:
    """Return the mapping of MovieLens 100K in daily partitions, which are made, and their past
    ingested, once.

    Raises:
        UserError: for a workspace that has interactions of another origin.
    """
    from recmeta.logs.fetching import datasets
    from recmeta.logs.split_by_day import split_by_day
    from recmeta.steps.data import ingest

    logs, name = Workspace(workspace) / "logs", "mapping.json"
    if not logs.exists(name):
        # If days exist already, a replay was killed while it was written, and continues.
        if not logs.names() and Workspace(workspace).exists(INTERACTIONS.path):
            raise UserError(
                f"the workspace {workspace} has interactions already, so that replaying MovieLens "
                "100K on it would bring nothing new: name another with --workspace, or say with "
                "--mapping which log it is to go on with."
            )
        folder = datasets.fetch("ml-100k")
        log = datasets.mapping_for("ml-100k", folder)
        split = split_by_day(log, str(workspace / "logs"), NUM_REPLAYED_DAYS)
        if split.history is not None:
            ingest.run(split.history, Workspace(workspace))
        logs.write_json(name, to_dict(split.daily))  # last, and whole: where it stands, all is done
    return Path(logs.local_path(name))


def environment(config: LocalConfig, base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of Airflow's processes and tasks; variables that are already set take
    precedence."""
    folder = str(Path(sys.executable).parent)
    chosen = {
        "AIRFLOW_HOME": str(config.home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(config.dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{config.airflow_url}/execution/",
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",  # on a small machine the first is slow
        "AIRFLOW__API__BASE_URL": config.airflow_url,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(config.airflow_port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "MLFLOW_TRACKING_URI": config.mlflow_url,
        "OMP_WAIT_POLICY": "PASSIVE",  # tasks that run side by side must not spin while they wait
        "RECMETA_WORKSPACE": str(config.workspace),
        "RECMETA_MAPPING": str(config.mapping),
        "PATH": f"{folder}{os.pathsep}{base.get('PATH', os.defpath)}",
    }
    if config.feature_store is not None:
        chosen["RECMETA_FEATURE_STORE"] = str(config.feature_store)
    return {**chosen, **base, "PATH": chosen["PATH"]}


def mlflow_command(config: LocalConfig) -> list[str]:
    """Return the command of an MLflow server over the workspace's own store."""
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--host", "127.0.0.1", "--port", str(config.mlflow_port), "--workers", "1"),
        *("--backend-store-uri", config.mlflow_backend),
        *("--artifacts-destination", str(config.workspace / artifacts.FOLDER)),
    ]


@contextlib.contextmanager
def serving(config: LocalConfig) -> Iterator[dict[str, str]]:
    """Run Airflow and MLflow until the block ends; yield the environment to talk to them with.

    Raises:
        RuntimeError: if one of them does not start, naming its log.
    """
    make_private(config.workspace)
    make_private(config.home)
    config.home.chmod(PRIVATE)  # one of an earlier version, too
    create_database(config.mlflow_backend, Workspace(config.workspace))
    env = environment(config, os.environ)
    airflow(env, "db", "migrate")
    create_pools(config.home, env)  # before the scheduler: a run may be due at once
    commands = {
        "mlflow": mlflow_command(config),
        **{name: [sys.executable, "-m", "airflow", *arguments] for name, arguments in AIRFLOW},
    }
    urls = {
        "mlflow": f"{config.mlflow_url}/health",
        "api-server": f"{config.airflow_url}/api/v2/monitor/health",
    }
    started: dict[str, subprocess.Popen[bytes]] = {}
    with contextlib.ExitStack() as stack:
        for name, command in commands.items():
            log = stack.enter_context((config.home / f"{name}.log").open("ab"))
            started[name] = subprocess.Popen(  # nosec B603  # a list, no shell
                command,
                env=env,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=UMASK,
            )
            stack.callback(_stop, started[name])
        for name, url in urls.items():
            _wait_for(name, url, started[name], config.home / f"{name}.log")
        yield env


def create_pools(home: Path, env: Mapping[str, str]) -> None:
    """Make the pools that the DAGs name; tasks of a pool that does not exist never start."""
    file = home / "pools.json"
    file.write_text(json.dumps(pools(), indent=2) + "\n")
    airflow(env, "pools", "import", str(file))


def airflow(env: Mapping[str, str], *arguments: str) -> str:
    """Return the standard output of an `airflow` command.

    Raises:
        RuntimeError: with its output, when it fails.
    """
    done = subprocess.run(  # nosec B603  # a list, no shell
        [sys.executable, "-m", "airflow", *arguments],
        env=dict(env),
        umask=UMASK,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"airflow {' '.join(arguments)} failed: {done.stdout}{done.stderr}")
    return done.stdout


def login(config: LocalConfig) -> tuple[str, str]:
    """Return the user and the password that Airflow generated on its first start."""
    user, password = next(iter(json.loads(config.passwords.read_text()).items()))
    return user, password


def greeting(config: LocalConfig, *, to_a_terminal: bool) -> str:
    """Return the message for when both servers run: their addresses and logins.

    Args:
        to_a_terminal: whether only the person who started them reads it; the password does not go
            into files and pipes.
    """
    user, password = login(config)
    secret = f"password {password}" if to_a_terminal else f"the password is in {config.passwords}"
    return (
        f"\nAirflow   {config.airflow_url}   user {user}   {secret}\n"
        f"MLflow    {config.mlflow_url}   no login: every account of this machine can change it\n"
        f"Logs      {config.home}\n\n"
        "Only this machine can connect, to both.\n"
        "Trigger the DAG build_tasks on the page; meta_train and cold_start_scoring follow.\n"
        "Ctrl-C stops both.\n"
    )


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="Airflow and MLflow over one local workspace.")
    parser.add_argument(
        "--workspace",
        type=Path,
        default=Path("workspace-airflow"),
        help="(else ./workspace-airflow: one of its own, to replay MovieLens 100K into)",
    )
    parser.add_argument("--mapping", type=Path, help="the log's mapping (else MovieLens 100K)")
    parser.add_argument("--dags", type=Path, default=Path("dags"))
    parser.add_argument(
        "--feature-store", type=Path, help="(else ./feature_store, where it and Feast are there)"
    )
    parser.add_argument("--airflow-port", type=int, default=8080)
    parser.add_argument("--mlflow-port", type=int, default=5000)
    given = parser.parse_args()
    workspace = given.workspace.resolve()
    try:
        store = _feature_store(given.dags, given.feature_store)
        check_ports({"airflow": given.airflow_port, "mlflow": given.mlflow_port})
        mapping = given.mapping or replayed_movielens(workspace)
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
    config = LocalConfig(
        workspace=workspace,
        dags=given.dags.resolve(),
        mapping=mapping.resolve(),
        feature_store=store,
        airflow_port=given.airflow_port,
        mlflow_port=given.mlflow_port,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what stops us stops both
    sys.stdout.write("Starting Airflow and MLflow; the first start takes a minute.\n")
    with contextlib.suppress(KeyboardInterrupt), serving(config):
        sys.stdout.write(greeting(config, to_a_terminal=sys.stdout.isatty()))
        sys.stdout.flush()
        signal.pause()


def _feature_store(dags: Path, given: Path | None) -> Path | None:
    """Return the feature repository to use, if there is one.

    Raises:
        UserError: if something that is needed does not exist.
    """
    extras.require("airflow", "mlflow")
    if not dags.is_dir():
        raise UserError(
            f"there is no folder {str(dags)!r} with DAGs: name one with --dags, or let `recmeta "
            "init` lay one out."
        )
    if given is not None:
        return find(str(given))[1]
    usual = Path("feature_store")
    return usual.resolve() if usual.is_dir() and importlib.util.find_spec("feast") else None


def check_ports(ports: Mapping[str, int]) -> None:
    """Check that nobody listens yet at the servers' addresses.

    Raises:
        UserError: if somebody does.
    """
    for name, port in ports.items():
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                raise UserError(
                    f"another program listens at port {port}: choose one with --{name}-port, or "
                    f"`make airflow {name.upper()}_PORT=…`."
                )


def _wait_for(name: str, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(url, timeout=START_SECONDS),  # nosec B310  # ours, on loopback
        ):
            return
        time.sleep(0.5)
    tail = log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"{name} did not start at {url}; see {log}, which ends with:\n{tail}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a process with everything that it started, even if the user interrupts again."""
    handlers = {s: signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGTERM)}
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for number, handler in handlers.items():
        signal.signal(number, handler)


if __name__ == "__main__":
    main()
