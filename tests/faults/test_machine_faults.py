"""What the machine and servers do to commands: exit code 2, one paragraph, and nothing is lost.

Every command is a process of its own. After each fault the same command without it must end as one
that nothing has disturbed.
"""

import contextlib
import dataclasses
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl
import pytest
from counting import ALL, Faults
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError
from misbehaving import Manner, misbehaving
from object_store import CREDENTIALS, object_store
from running import FAST

from recmeta import schema
from recmeta.errors.causes import cause_of, explained
from recmeta.testing.synthetic import SyntheticConfig, generate, write_csv
from recmeta.workspace import Workspace

COLUMNS = ["--time-col", "timestamp", "--value-col", "value", "--scale", "1:5"]
TABLES = (schema.INTERACTIONS, schema.QUARANTINE, schema.USERS, schema.ITEMS)
FAILED = 2
WHOLE = (0, 3)  # so few cold users do not convince the gate
REMEDIES = ("free ", "raise ", "end ", "start it", "stop it", "look at", "make it", "wait", "allow")


@dataclasses.dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str

    def wrong(self, code: int = FAILED) -> str:
        """Return what is not as it must be where a command failed; empty where all is."""
        paragraphs = [line for line in self.stderr.splitlines() if not line.endswith(": done")]
        said = paragraphs[-1].lower() if paragraphs else ""
        try:
            (line,) = self.stdout.splitlines()
            found = json.loads(line)
        except ValueError:
            return f"exit code {self.code}, standard output is no object: {self.stdout!r:.300}"
        faults = {
            f"exit code {self.code}": self.code == code == found.get("exit_code"),
            "no object": isinstance(found.get("error"), str),
            f"not one paragraph: {self.stderr[-600:]!r}": len(paragraphs) == 1,
            f"no error: {said!r}": said.startswith("error: "),
            f"no remedy: {said!r}": code != FAILED or any(r in said for r in REMEDIES),
            f"a dump: {self.stderr[-600:]!r}": not any(
                word in self.stderr for word in ("Traceback", "panicked", "BACKTRACE")
            ),
        }
        return "; ".join(fault for fault, holds in faults.items() if not holds)


def started(
    *arguments: object,
    limit: tuple[int, int] | None = None,
    environment: Mapping[str, str] | None = None,
) -> "subprocess.Popen[str]":
    """Start a command of the command line.

    Args:
        limit: a kind of resource and how much of it the command may have.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "recmeta.cli", *map(str, arguments), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        preexec_fn=None if limit is None else lambda: resource.setrlimit(limit[0], (limit[1],) * 2),
    )


def run(
    *arguments: object,
    limit: tuple[int, int] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Done:
    """Call the command line in a process of its own."""
    process = started(*arguments, limit=limit, environment=environment)
    stdout, stderr = process.communicate(timeout=400)
    return Done(process.returncode, stdout, stderr)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log of which some rows are bad, and a brief configuration."""
    folder = tmp_path_factory.mktemp("log")
    config = SyntheticConfig(num_users=60, num_items=40, rows_per_user=(6, 24))
    write_csv(generate(config, seed=0), folder)
    with (folder / "interactions.csv").open("a") as file:
        file.write(",i01,3,1700000000\nu1,,3,1700000000\n")
    (folder / "fast.toml").write_text(FAST)
    return folder


def ingest(log: Path, workspace: object) -> list[object]:
    return ["ingest", log / "interactions.csv", *COLUMNS, "--workspace", workspace]


def whole_run(log: Path, workspace: object) -> list[object]:
    how = ["--config", log / "fast.toml", "--device", "cpu", "--no-rival", "--workspace", workspace]
    return ["run", "--dataset", log / "interactions.csv", *COLUMNS, *how]


def contents(workspace: Path) -> dict[str, pl.DataFrame]:
    """Return the tables without the clock's columns, sorted."""
    frames = {t.name: pl.read_delta(Workspace(workspace).table_uri(t)) for t in TABLES}
    return {
        name: (plain := frame.drop(schema.INGESTED_AT, strict=False)).sort(plain.columns)
        for name, frame in frames.items()
    }


@pytest.fixture(scope="module")
def undisturbed(log: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.DataFrame]:
    """The tables after an ingest that nothing disturbs."""
    workspace = tmp_path_factory.mktemp("undisturbed") / "ws"
    done = run(*ingest(log, workspace))
    assert done.code == 0, done.stderr
    return contents(workspace)


def differs(workspace: Path, undisturbed: dict[str, pl.DataFrame]) -> list[str]:
    found = contents(workspace)
    return [name for name, frame in undisturbed.items() if not frame.equals(found[name])]


@contextlib.contextmanager
def small_disk(place: Path, kilobytes: int) -> Iterator[None]:
    """Mount a disk of a size; skip where that is not allowed."""
    place.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def grow(place: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=200m", str(place)], check=True)


def spread(number: int, first: int, last: int) -> list[int]:
    """Return numbers of equal ratios from the first to the last."""
    steps = max(number - 1, 1)
    return [round(first * (last / first) ** (step / steps)) for step in range(number)]


@pytest.mark.timeout(3600)
def test_a_full_disk(
    log: Path, undisturbed: dict[str, pl.DataFrame], tmp_path: Path, faults: Faults
) -> None:
    """Delta's tables, shards, manifests, MLflow's database, the model, the report and the lists."""
    place = tmp_path / "disk"
    sizes = spread(faults.number(1, 10), 8, 3_000)
    for size in sizes:
        arguments = (whole_run if ALL else ingest)(log, place / "ws")
        with small_disk(place, size):
            done = run(*arguments, environment={"TMPDIR": str(place)} if size % 2 else None)
            faults.inject("the disk is full")
            if done.code not in WHOLE:  # the largest may be enough
                faults.check(not done.wrong(), f"{size} kB: {done.wrong()}")
            grow(place)
            again = run(*arguments)
            faults.check(again.code in WHOLE, f"{size} kB, then more: {again.stderr}")
            different = differs(place / "ws", undisturbed)
            faults.check(not different, f"{size} kB: different in {different}")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("kind", "limit", "sizes", "sample"),
    [
        ("a file may not become large (RLIMIT_FSIZE)", resource.RLIMIT_FSIZE, (2_048, 400_000), 1),
        ("few files may be open (RLIMIT_NOFILE)", resource.RLIMIT_NOFILE, (16, 40), 1),
        ("memory runs out (RLIMIT_AS)", resource.RLIMIT_AS, (400_000_000, 3_000_000_000), 1),
    ],
    ids=["size-of-a-file", "open-files", "memory"],
)
def test_a_limit_of_the_machine(
    kind: str,
    limit: int,
    sizes: tuple[int, int],
    sample: int,
    log: Path,
    undisturbed: dict[str, pl.DataFrame],
    tmp_path: Path,
    faults: Faults,
) -> None:
    number = faults.number(sample, 8)
    for size in spread(number, *sizes):
        workspace = tmp_path / f"ws-{size}"
        arguments = (whole_run if ALL else ingest)(log, workspace)
        done = run(*arguments, limit=(limit, size))
        faults.inject(kind)
        if done.code not in WHOLE:
            faults.check(not done.wrong(), f"{size}: {done.wrong()}")
        again = run(*arguments)
        faults.check(again.code in WHOLE, f"{size}, then more: {again.stderr}")
        different = differs(workspace, undisturbed)
        faults.check(not different, f"{size}: different in {different}")


MANNERS: tuple[Manner, ...] = ("fails", "closes", "hangs")


@pytest.mark.timeout(1800)
def test_a_log_whose_server_misbehaves(tmp_path: Path, faults: Faults) -> None:
    for manner in MANNERS[: faults.number(1, 3)]:
        with misbehaving(manner) as port:
            address = f"http://me:pa55word@127.0.0.1:{port}/log.csv?sig=5ecret5ecret"
            done = run("ingest", address, *COLUMNS, "--workspace", tmp_path / "ws")
        faults.inject("the server of a log fails, closes or hangs")
        faults.check("Download it yourself" in done.stderr, f"{manner}: {done.stderr}")
        faults.check(done.code == FAILED, f"{manner}: {done.code}")
        said = done.stdout + done.stderr
        faults.check("pa55" not in said and "5ecret" not in said, f"a secret: {said}")
        faults.check("Traceback" not in done.stderr, done.stderr)


@pytest.mark.timeout(3600)
def test_an_object_store_that_misbehaves(log: Path, faults: Faults) -> None:
    """It is given up on within the two minutes that docs/airflow.md promises."""
    commands = [["doctor"], ingest(log, ""), ["build-tasks"]] if ALL else [ingest(log, "")]
    for manner in MANNERS[: faults.number(1, 3)]:
        for arguments in commands:
            if "--workspace" in arguments:
                arguments = arguments[:-2]
            with misbehaving(manner) as port:
                environment = {
                    **CREDENTIALS,
                    "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                    "AWS_ALLOW_HTTP": "true",
                    "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}",
                }
                begun = time.monotonic()
                place = ["--workspace", "s3://bucket/ws"]
                done = run(*arguments, *place, environment=environment)
                seconds = time.monotonic() - begun
            faults.inject("an object store fails, closes or hangs")
            if arguments[0] == "doctor":
                faults.check(done.code == FAILED, f"{manner} {arguments[0]}: {done.stderr}")
            else:
                faults.check(not done.wrong(), f"{manner} {arguments[0]}: {done.wrong()}")
            longest = 480 if arguments[0] == "doctor" else 150  # doctor asks several
            faults.check(seconds < longest, f"{manner} {arguments[0]}: {seconds:.0f} s")


@pytest.mark.skipif(not ALL, reason="RECMETA_FAULTS=1 runs it: MLflow takes long to start")
@pytest.mark.timeout(1800)
def test_an_mlflow_that_misbehaves_or_is_locked(tmp_path: Path, faults: Faults) -> None:
    kind = "MLflow's server fails, closes or hangs; its database is locked"
    for manner in MANNERS:
        for command in ("rollback", "report", "evidence"):
            with misbehaving(manner) as port:
                address = f"http://me:pa55word@127.0.0.1:{port}"
                done = run(
                    *(command, "--workspace", tmp_path / "ws"),
                    environment={"MLFLOW_TRACKING_URI": address},
                )
            faults.inject(kind)
            if command != "report":  # it does not ask MLflow
                faults.check(not done.wrong(), f"{manner} {command}: {done.wrong()}")
            faults.check("pa55" not in done.stdout + done.stderr, f"a secret: {done}")
    workspace = tmp_path / "ws"
    from recmeta.registry.tracking import connect, experiment_id

    experiment_id(connect(Workspace(workspace)))
    for command in ("rollback", "evidence"):
        with contextlib.closing(sqlite3.connect(workspace / "mlflow.db")) as database:
            database.execute("BEGIN EXCLUSIVE")
            done = run(command, "--workspace", workspace)
            faults.inject(kind)
            faults.check(not done.wrong(), f"locked, {command}: {done.wrong()}")
        again = run(command, "--workspace", workspace)
        faults.check("no champion" in again.stderr, f"then unlocked: {again.stderr}")


@pytest.mark.skipif(not ALL, reason="RECMETA_FAULTS=1 runs it: the server takes long to start")
def test_a_bucket_that_is_not_there_and_credentials_that_are_wrong(
    log: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INITIAL_NO_AUTH_ACTION_COUNT", "1")  # whoever makes the bucket
    with object_store() as address:
        environment = {"AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true"}
        for bucket in ("no-bucket", "bucket"):
            done = run(*ingest(log, f"s3://{bucket}/ws"), environment=environment)
            faults.inject("there is no such bucket; the credentials are wrong")
            faults.check(not done.wrong(), f"{bucket}: {done.wrong()}")
            secret = CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
            faults.check(secret not in done.stdout + done.stderr, f"{bucket}: a secret")


def test_a_commit_that_lost_its_race(tmp_path: Path, faults: Faults) -> None:
    rows = pl.DataFrame({"n": [1]}).to_arrow()
    write_deltalake(tmp_path, rows)
    first, second = DeltaTable(tmp_path), DeltaTable(tmp_path)
    write_deltalake(first, rows, mode="overwrite")
    faults.inject("another commit came first")
    with pytest.raises(CommitFailedError) as error:
        write_deltalake(
            second,
            rows,
            mode="overwrite",
            commit_properties=CommitProperties(max_commit_retries=0),
        )
    cause = cause_of(error.value)
    faults.check(cause is not None and cause.name == "lost commit race", str(cause))
    faults.check("run the command again" in str(explained(error.value)), "no remedy")


def child_of(process: "subprocess.Popen[str]") -> int:
    """Return the process in which a command works, as soon as it is there."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until = time.monotonic() + 30
    while not (found := children.read_text().split()):
        assert time.monotonic() < until
        time.sleep(0.01)
    return int(found[0])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is one process")
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGKILL, 2, "memory is not enough"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGINT, 130, "interrupted"),
    ],
    ids=["killed-by-linux", "terminated", "interrupted"],
)
def test_a_command_that_is_ended(
    number: signal.Signals, code: int, said: str, log: Path, tmp_path: Path, faults: Faults
) -> None:
    """By Linux where memory runs out; by a person, while a server hangs."""
    with misbehaving("hangs") as port:
        address = f"http://127.0.0.1:{port}/log.csv"
        process = started("ingest", address, *COLUMNS, "--workspace", tmp_path / "ws")
        child = child_of(process)
        time.sleep(3 if number != signal.SIGKILL else 0.5)
        os.kill(child if number == signal.SIGKILL else process.pid, number)
        begun = time.monotonic()
        stdout, stderr = process.communicate(timeout=60)
    faults.inject("a command is ended by Linux, SIGTERM or Ctrl-C")
    done = Done(process.returncode, stdout, stderr)
    faults.check(not done.wrong(code), f"{number.name}: {done.wrong(code)}")
    faults.check(said in stderr, f"{number.name}: {stderr}")
    faults.check(time.monotonic() - begun < 20, f"{number.name}: it took long")


def test_nobody_reads_what_is_printed(faults: Faults) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "recmeta.cli", "data", "list"]
    closed = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    faults.inject("standard output is closed, or a full disk")
    faults.check((closed.returncode, closed.stderr) == (141, ""), str(closed))
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    faults.inject("standard output is closed, or a full disk")
    faults.check(done.returncode == FAILED and "disk is full" in done.stderr, str(done))


@pytest.mark.parametrize(
    "arguments",
    [["ingest", "--bogus"], ["bogus"], ["score", "--top-k", "many"], ["data", "fetch"]],
    ids=" ".join,
)
def test_options_that_do_not_fit_are_an_object_too(arguments: list[str]) -> None:
    from typer.testing import CliRunner

    from recmeta.cli.app import build

    called = CliRunner().invoke(build(), [*arguments, "--json"], prog_name="recmeta")
    (line,) = called.stdout.splitlines()
    assert (called.exit_code, json.loads(line)["exit_code"]) == (2, 2)
    assert json.loads(line)["error"] in called.stderr
