"""A real server in a process of its own, and clients that mean no good, over real sockets."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.speed.processes import environment

KEY = "a-key-for-hostile-clients"
PROBE_SECONDS = 0.05
HEADERS = f"Host: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"


class Victim:
    """The server, watched."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log
        self.expected: list[Any] = []
        """What it answers when nobody disturbs it."""
        self._about = psutil.Process(process.pid)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def megabytes(self) -> float:
        """Resident memory."""
        return float(self._about.memory_info().rss) / 1e6

    @property
    def cpu_seconds(self) -> float:
        """Processor time so far."""
        times = self._about.cpu_times()
        return float(times.user + times.system)

    @property
    def waited_seconds(self) -> float:
        """How long its threads have been ready to run while other processes had the cores."""
        return sum(_waited(path) for path in Path(f"/proc/{self.process.pid}/task").glob("*"))

    @property
    def waited_for_core(self) -> float:
        """The same of the thread that answers."""
        return _waited(Path(f"/proc/{self.process.pid}"))

    def connect(self) -> socket.socket:
        """Return a connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def ask(self, body: dict[str, Any]) -> Any:
        """Return the answer to an honest client, who asks again after a 503 for as long as a client
        would: on a busy machine the server may still be working through what it had accepted."""
        request = urllib.request.Request(
            f"{self.url}/v1/recommendations",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
        )
        end = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code != 503 or time.monotonic() > end:
                    raise
                time.sleep(float(error.headers.get("Retry-After", "1")))

    def is_right(self, body: dict[str, Any]) -> bool:
        """Return whether an honest client gets what it got when nobody disturbed the server: the
        same items, with scores equal but for rounding, which the rest of the batch has a say in."""
        return bool(self.ask(body) == _rounded(self.expected))

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        headers = {"Authorization": f"Bearer {KEY}"}
        request = urllib.request.Request(f"{self.url}/metrics", None, headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


@contextlib.contextmanager
def victim(folder: Path, **limits: Any) -> Iterator[Victim]:
    """Run a server until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    log = folder / "server.log"
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.speed.serve.server"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "bayesian-linear", str(port), json.dumps(limits)],
            env={**environment(1), "RECMETA_API_KEYS": f"tests:{KEY}"},
            stderr=file,
        )
    try:
        found = Victim(process, port, log)
        end = time.monotonic() + 120
        while not _is_ready(found):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, "it does not start"
            time.sleep(0.1)
        yield found
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()


def _is_ready(server: Victim) -> bool:
    try:
        with urllib.request.urlopen(f"{server.url}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


def _waited(task: Path) -> float:
    try:
        return int((task / "schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):  # it has ended, or this system does not tell
        return 0.0


class Probe:
    """Asks /livez over and over, with a new connection each time, and watches the memory."""

    def __init__(self, server: Victim) -> None:
        self.server = server
        self.seconds: list[float] = []
        """How long each answer took, less what this machine's other work kept both waiting."""
        self.failures: list[str] = []
        self.megabytes = 0.0
        self.may_take = 1.0
        """Seconds of an answer. Where other processes keep the server from its core for more than
        half of the time, an answer must come, but nothing can be said of when."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> "Probe":
        self._began = time.monotonic(), self.server.waited_for_core
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(60)
        at, waited = self._began
        if self.server.waited_for_core - waited > 0.5 * (time.monotonic() - at):
            self.may_take = 60.0

    def _ask(self) -> None:
        late = 0.0
        while not self._stop.is_set():
            waited = self.server.waited_seconds + _waited(Path("/proc/thread-self"))
            started = time.monotonic()
            try:
                with urllib.request.urlopen(f"{self.server.url}/livez", timeout=60) as answer:
                    assert answer.status == 200
            except Exception as error:
                self.failures.append(repr(error))
            ended = time.monotonic()
            waited = self.server.waited_seconds + _waited(Path("/proc/thread-self")) - waited
            self.megabytes = max(self.megabytes, self.server.megabytes)
            self._stop.wait(PROBE_SECONDS)
            late = max(late, time.monotonic() - ended - PROBE_SECONDS)
            self.seconds.append(ended - started - late - max(0.0, waited))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return pytest.approx(value, abs=1e-5) if isinstance(value, float) else value


def request(path: str = "/livez", headers: str = "Host: x\r\n", method: str = "GET") -> bytes:
    """Return a request without a body."""
    return f"{method} {path} HTTP/1.1\r\n{headers}\r\n".encode()


def post(body: bytes, headers: str = HEADERS) -> bytes:
    """Return a request for recommendations."""
    head = f"POST /v1/recommendations HTTP/1.1\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def everything(connection: socket.socket) -> bytes:
    """Return all that comes until the server closes."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def statuses(answer: bytes) -> list[int]:
    """Return the statuses of all answers in what a server sent."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def send_all(connection: socket.socket, data: bytes) -> bool:
    """Send, and return whether the server let it."""
    try:
        connection.sendall(data)
    except (ConnectionError, TimeoutError):
        return False
    return True


def allow_many_files() -> None:
    """Let this process hold thousands of connections."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4_096 <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (4_096, hard))


IS_LINUX = os.uname().sysname == "Linux"
