"""recmeta serve, as a process that gets signals."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

import httpx
import pytest
from served import RECOMMENDATIONS, body, until

from recmeta.endpoint.guard.keys import VARIABLE
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
        (["--api-keys", "absent.txt"], "cannot read the API keys"),
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
