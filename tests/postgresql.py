"""A PostgreSQL server for tests that need a real one."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@contextlib.contextmanager
def postgresql(*databases: str) -> Iterator[str]:
    """Run a server with these databases; yield its address, to which `/DATABASE` is added.

    The test is skipped where the server or its driver is not installed.
    """
    psycopg = pytest.importorskip("psycopg", reason="the driver psycopg is not installed")
    sql = pytest.importorskip("psycopg.sql")
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = shutil.which("initdb") or (str(homes[-1]) if homes else None)
    if initdb is None:
        pytest.skip("PostgreSQL is not installed")
    bin_folder = Path(initdb).parent
    folder = Path(tempfile.mkdtemp(prefix="recmeta-postgresql-", dir="/tmp"))  # a socket's path
    folder.chmod(0o755)
    as_owner: list[str] = []
    if os.geteuid() == 0:  # it refuses to run as root
        shutil.chown(folder, "postgres")
        as_owner = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(command: str, *arguments: str) -> None:
        name = str(bin_folder / command)
        subprocess.run([*as_owner, name, *arguments], check=True, cwd=folder, capture_output=True)

    data = str(folder / "data")
    try:
        run("initdb", "-D", data, "-A", "trust", "-U", "recmeta", "--no-sync")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        run("pg_ctl", "-D", data, "-l", str(folder / "log"), "-o", options, "-w", "start")
        try:
            address = f"host=127.0.0.1 port={port} user=recmeta dbname=postgres"
            with _connected(psycopg, address) as connection:
                for name in databases:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            yield f"postgresql+psycopg://recmeta@127.0.0.1:{port}"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _connected(psycopg: Any, address: str) -> Any:
    """Return a connection to a server that may still be starting up: on a busy machine `pg_ctl -w`
    can come back before it lets anybody in."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return psycopg.connect(address, autocommit=True)
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
