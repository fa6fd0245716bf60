"""The client waits and tries again, but not for longer than it was told."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from recmeta.client import Client, EndpointError, EndpointUnavailable, Event, Kept

KEPT = json.dumps({"accepted": 1, "duplicates": 0, "warnings": []}).encode()
BUSY = json.dumps({"title": "Busy", "status": 503, "detail": "the queue is full."}).encode()


class Scripted(BaseHTTPRequestHandler):
    """Answers as it is told, one request after the other."""

    protocol_version = "HTTP/1.1"
    answers: ClassVar[list[tuple[int, dict[str, str], bytes]]] = []
    bodies: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        status, headers, body = self.answers.pop(0) if self.answers else (200, {}, KEPT)
        if not status:  # the connection breaks
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    Scripted.answers.clear()
    Scripted.bodies.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Scripted) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_busy_server_and_a_broken_connection_are_tried_again_with_the_same_id(url: str) -> None:
    Scripted.answers += [(503, {"Retry-After": "0"}, BUSY), (0, {}, b""), (429, {}, b"a proxy")]
    Scripted.answers += [(503, {"Retry-After": "\u00b2"}, BUSY)]  # a digit that int() refuses
    with Client(url, timeout=20.0) as shop:
        assert shop.send(Event(user_id="u", item_id="i", value=1.0)) == Kept(1, 0)
        assert shop.send(Event(user_id="u", item_id="i")) == Kept(1, 0)
    ids = [json.loads(body)["events"][0]["event_id"] for body in Scripted.bodies]
    assert len(ids) == 6
    assert len(set(ids)) == 2
    assert ids[:5] == ids[:1] * 5


def test_what_is_refused_is_not_tried_again(url: str) -> None:
    Scripted.answers += [(422, {}, BUSY.replace(b"503", b"422"))]
    with Client(url) as shop, pytest.raises(EndpointError, match="the queue is full") as refused:
        shop.send(Event(user_id="u", item_id="i"))
    assert (refused.value.status, len(Scripted.bodies)) == (422, 1)


def test_the_time_is_kept_to(url: str) -> None:
    began = time.monotonic()
    Scripted.answers += [(503, {"Retry-After": "60"}, BUSY)]
    with Client(url, timeout=1.0) as shop, pytest.raises(EndpointUnavailable) as busy:
        shop.send(Event(user_id="u", item_id="i"))
    assert busy.value.status == 503
    with Client("http://127.0.0.1:9", timeout=0.2) as shop, pytest.raises(EndpointUnavailable):
        shop.recommend()
    assert time.monotonic() - began < 10  # 60 s were asked for
    with pytest.raises(ValueError, match="it must be such as"):
        Client("127.0.0.1:8000")


def test_it_needs_the_standard_library_alone() -> None:
    script = """
import sys
import recmeta.client
known = {*sys.stdlib_module_names, "recmeta"}
print({name.split(".")[0] for name in sys.modules if not name.startswith("_")} - known)
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path += {sys.path!r}\n{script}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.strip() == "set()"
