"""What hangs keeps neither those waiting who need it not, nor the process from its end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import RECOMMENDATIONS, body, serving, until

from benchmarks.speed.processes import ROOT, environment
from recmeta.endpoint.answers.champion import RegistrySource
from recmeta.endpoint.operation import owner
from recmeta.workspace import Workspace

HANGING = Path(__file__).with_name("hanging_server.py")
SHUTDOWN_SECONDS = 2.0


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_process_ends_in_time_whatever_hangs(sent: signal.Signals) -> None:
    if sent == signal.SIGTERM and os.environ.get("RECMETA_SLOW") != "1":
        pytest.skip("RECMETA_SLOW=1 runs it")
    with (
        socket.create_server(("127.0.0.1", 0)) as free,
        socket.create_server(("127.0.0.1", 0)) as silent,
    ):
        port, silent_port = (s.getsockname()[1] for s in (free, silent))
        free.close()
        limits = {"shutdown_seconds": SHUTDOWN_SECONDS, "online_seconds": 1_000.0}
        server = subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-W",
                    "ignore",
                    str(Path(__file__).with_name("hanging_server.py")),
                ),
                *(str(port), str(silent_port), json.dumps(limits)),
            ],
            env=environment(1),
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        url = f"http://127.0.0.1:{port}"
        answers: list[Any] = []
        held: list[socket.socket] = []
        silent.settimeout(30)

        def ready() -> bool:
            assert server.poll() is None, server.communicate()
            try:
                return httpx.get(f"{url}/readyz").status_code == 200
            except httpx.ConnectError:
                return False

        def ask() -> None:
            try:
                answers.append(httpx.post(url + RECOMMENDATIONS, json={"user_id": "a"}, timeout=30))
            except httpx.HTTPError as error:
                answers.append(error)

        try:
            until(ready, 120)
            asking = threading.Thread(target=ask)
            asking.start()
            slow = socket.create_connection(("127.0.0.1", port))
            slow.sendall(b"GET /livez HT")
            slow_body = socket.create_connection(("127.0.0.1", port))
            slow_body.sendall(
                b"POST /v1/recommendations HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
            )
            for _ in range(3):  # the registry's, the online store's, and that of the odd thread
                held.append(silent.accept()[0])
            started = time.monotonic()
            server.send_signal(sent)
            _, stderr = server.communicate(timeout=30)
            seconds = time.monotonic() - started
            asking.join(10)
        finally:
            server.kill()
        for connection in (slow, slow_body, *held):
            connection.close()
    assert seconds < SHUTDOWN_SECONDS + 1.5, f"it took {seconds:.1f} s"  # a busy machine
    events = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
    told = {line["event"] for line in events}
    assert "a batch is still computed; its thread is left behind" in told
    assert "a champion is still looked for or loaded; its thread is left behind" in told
    [answer] = answers
    assert isinstance(answer, httpx.HTTPError)
    if sent == signal.SIGTERM:  # which ends the process, once the server has stopped
        assert server.returncode == -signal.SIGTERM
        return
    assert server.returncode == 1
    assert events[-1]["event"] == "the server did not stop in time and was ended"
    assert "does-not-let-go" in events[-1]["threads"]
    assert "recmeta-online-store" in events[-1]["threads"]


def test_a_workspace_that_hangs_keeps_only_those_waiting_who_ask_for_it(
    source: RegistrySource, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, readings = threading.Event(), []
    really = owner._coverage

    def hangs(workspace: Workspace) -> Any:
        readings.append(workspace)
        goes_on.wait(30)
        return really(workspace)

    monkeypatch.setattr(owner, "_coverage", hangs)
    with serving(source, workspace=workspace, poll_seconds=3600.0, owner_seconds=0.5) as served:
        found: list[httpx.Response] = []
        headers = dict(served.client.headers)

        def look() -> None:
            answer = httpx.get(f"{served.url}/v1/workspace", headers=headers, timeout=30)
            found.append(answer)

        lookers = [threading.Thread(target=look) for _ in range(60)]
        for looker in lookers:
            looker.start()
        started = time.monotonic()
        assert served.ask(("i03", 4.0))["num_used"] == 1
        assert served.client.get("/v1/items?query=film").status_code == 200
        assert served.client.get("/v1/model").status_code == 200
        assert time.monotonic() - started < 5.0
        for looker in lookers:
            looker.join()
        assert {answer.status_code for answer in found} == {503}
        assert {int(answer.headers["retry-after"]) for answer in found} == {10}
        assert "takes too long" in found[0].json()["detail"]
        until(lambda: len(readings) > 0)  # on a busy machine it gets there later
        assert len(readings) == 1
        goes_on.set()
        until(lambda: served.client.get("/v1/workspace").status_code == 200)


def test_answers_go_without_an_online_store_that_hangs(
    source: RegistrySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, calls = threading.Event(), []

    def hangs(user_ids: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        calls.append(user_ids)
        if len(calls) == 1:
            goes_on.wait(30)
        return {user_id: {"group": "g1"} for user_id in user_ids}

    with serving(source, online=hangs, poll_seconds=3600.0, online_seconds=0.3) as served:
        for _ in range(3):
            started = time.monotonic()
            answer = served.client.post(RECOMMENDATIONS, json=body(("i03", 4.0), user_id="a"))
            assert [w["code"] for w in answer.json()["warnings"]] == ["profile_unavailable"]
            assert time.monotonic() - started < 5.0
        assert len(calls) == 1, "another call was begun while the first one hangs"
        goes_on.set()
        until(lambda: not served.ask(("i03", 4.0), user_id="a")["warnings"])
