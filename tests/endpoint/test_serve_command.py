"""recmeta serve, as a process that gets signals."""

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import RECOMMENDATIONS, body, until

from recmeta.endpoint.guard.keys import VARIABLE
from recmeta.errors import UserError
from recmeta.workspace import Workspace

KEY = "0123456789abcdefghij"


def test_a_signal_stops_the_server_after_the_requests_in_flight(workspace: Workspace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "recmeta.cli", "serve", "-w", workspace.path, "--port", str(port)],
        env={**os.environ, VARIABLE: f"shop:{KEY}", "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    headers = {"Authorization": f"Bearer {KEY}"}
    answers: list[httpx.Response] = []
    refused: list[Exception] = []

    def ready() -> bool:
        assert server.poll() is None, server.communicate()
        try:
            return httpx.get(f"{url}/readyz").status_code == 200
        except httpx.ConnectError:
            return False

    def ask() -> None:
        with httpx.Client(headers=headers, timeout=30) as client:
            while not refused:
                try:
                    answers.append(client.post(url + RECOMMENDATIONS, json=body(("i03", 4.0))))
                except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
                    refused.append(error)  # between two requests: the connection is closed

    try:
        until(ready, 120)
        assert httpx.post(url + RECOMMENDATIONS, json={}).status_code == 401
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: len(answers) > 10)
        server.send_signal(signal.SIGTERM)
        stdout, stderr = server.communicate(timeout=60)
        for thread in threads:
            thread.join()
    finally:
        server.kill()
    # Uvicorn stops in order and then lets the signal have its usual effect.
    assert server.returncode in (0, -signal.SIGTERM)
    assert {answer.status_code for answer in answers} == {200}
    lines = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
    requests = [line for line in lines if line["event"] == "request"]
    assert {line["key"] for line in requests if line["status"] == 200 and "key" in line} == {"shop"}
    assert any(line["event"] == "champion" for line in lines)
    assert KEY not in stderr + stdout
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "there are no API keys"),
        (["--no-auth", "--host", "0.0.0.0"], "leave one of the two out"),
        (["--api-keys", "absent.txt"], "cannot read the file of API keys"),
    ],
)
def test_an_open_door_is_refused(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from typer.testing import CliRunner

    from recmeta.cli.app import build

    monkeypatch.delenv(VARIABLE, raising=False)
    result = CliRunner().invoke(build(), ["serve", *arguments])
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_a_rule_that_fits_no_item_ends_it_before_it_serves(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from recmeta.cli.app import build

    monkeypatch.delenv(VARIABLE, raising=False)
    rule = ["--max-per-category", "titel=3"]
    result = CliRunner().invoke(build(), ["serve", "--no-auth", "-w", workspace.path, *rule])
    assert result.exit_code == 2
    assert "Did you mean 'title'?" in " ".join(result.stderr.split())


def _serve(*arguments: str) -> Any:
    from typer.testing import CliRunner

    from recmeta.cli.app import build

    return CliRunner().invoke(build(), ["serve", "--no-auth", *arguments])


def test_a_port_in_use_ends_it_before_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    from recmeta.endpoint.answers.champion import RegistrySource

    def never(self: RegistrySource, **given: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(RegistrySource, "first", never)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = _serve("--port", str(port))
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert f"port {port} of 127.0.0.1 is in use by the process {os.getpid()}" in said
    assert f"--port {port + 1}" in said


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("192.0.2.7", "192.0.2.7 is not an address of this machine"),
        ("no such host", "the host 'no such host' is not an address"),
        ("a" * 70, "is not an address"),
    ],
)
def test_a_host_that_cannot_be_had_is_refused(host: str, said: str) -> None:
    from recmeta.endpoint.server import bound

    with pytest.raises(UserError, match=said):
        bound(host, 0)


def test_a_port_of_the_system_is_refused() -> None:
    """As another user, since root may have it."""
    program = (
        "import encodings.idna, os\n"  # another user may not find it later
        "from recmeta.endpoint.server import bound\n"
        "if os.getuid() == 0:\n"
        "    os.setuid(65534)\n"
        "try:\n"
        "    bound('127.0.0.1', 81)\n"
        "except ValueError as error:\n"
        "    print(error)\n"
    )
    lowest = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if lowest <= 81:
        pytest.skip("this machine gives every port to anybody")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True
    )
    assert "may not listen at port 81" in done.stdout
    assert "--port 8000" in done.stdout


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("max_conections=5", "Did you mean 'max_connections'?"),
        ("max_connections=0", "it must be positive"),
        ("max_connections=5", "it must not be above max_connections"),
        ("header_seconds=nan", "it must be a number"),
        ("header_seconds=60", "it must not be above request_seconds"),
        ("max_connections", "is not KEY=VALUE"),
        ("max_connections=many", "is not KEY=VALUE"),
        ("proxies=5", "it must be a list"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(limit: str, said: str) -> None:
    result = _serve("--limit", limit)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_more_connections_than_files_are_refused() -> None:
    program = (
        "import resource\n"
        "from recmeta.endpoint.server import allow_files\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 2_000))\n"
        "allow_files(1_000)\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))\n"
        "try:\n"
        "    allow_files(5_000)\n"
        "except ValueError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("(1256, 2000)\n5,000 connections need 5,256 open files")
    assert "--limit max_connections=1744" in done.stdout


def test_the_guide_lists_every_limit_with_its_default() -> None:
    from recmeta.endpoint.config import EndpointConfig

    guide = (Path(__file__).parents[2] / "docs" / "how-to" / "serving.md").read_text()
    table = dict(re.findall(r"^\| `(\w+)` \| ([\w.,]+) \|", guide, re.MULTILINE))
    told = {
        name: 0.0 if default == "none" else float(default.replace(",", ""))
        for name, default in table.items()
    }
    defaults = {field.name: field.default or 0.0 for field in dataclasses.fields(EndpointConfig)}
    assert told == defaults
