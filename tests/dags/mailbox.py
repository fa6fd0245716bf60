"""A mail server of this machine that keeps what it is sent, and one that takes webhooks."""

import contextlib
import email
import email.policy
import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any


class _Smtp(socketserver.StreamRequestHandler):
    """As much of RFC 5321 as a client needs that sends a letter."""

    def handle(self) -> None:
        self._say("220 mailbox")
        while line := self.rfile.readline().strip().upper():
            if line.startswith(b"DATA"):
                self._say("354 go on")
                lines = iter(self.rfile.readline, b".\r\n")
                text = b"".join(x[1:] if x.startswith(b"..") else x for x in lines)
                letter = email.message_from_bytes(text, policy=email.policy.default)
                self.server.letters.append(letter)  # type: ignore[attr-defined]
                self._say("250 kept")
            elif line.startswith(b"QUIT"):
                self._say("221 bye")
                return
            else:
                self._say("250 fine")

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextlib.contextmanager
def mailbox() -> Iterator[tuple[dict[str, str], list[EmailMessage]]]:
    """Serve; yield the settings by which Airflow sends letters here, and the letters."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Smtp) as server:
        server.daemon_threads = True
        server.letters = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connection = {
            "conn_type": "smtp",
            "host": "127.0.0.1",
            "port": server.server_address[1],
            "extra": {"disable_ssl": True, "disable_tls": True, "from_email": "a@example.com"},
        }
        settings = {
            "AIRFLOW_CONN_SMTP_DEFAULT": json.dumps(connection),
            "RECMETA_NOTIFIER": "mail:ops@example.com",
        }
        try:
            yield settings, server.letters  # type: ignore[attr-defined]
        finally:
            server.shutdown()


def text_of(letter: EmailMessage) -> str:
    """Return what a letter says."""
    body = letter.get_body(("html", "plain"))
    assert body is not None
    return str(body.get_content())


@contextlib.contextmanager
def webhook() -> Iterator[tuple[dict[str, str], list[dict[str, Any]]]]:
    """Serve; yield the settings by which Airflow posts here, and what was posted."""
    posted: list[dict[str, Any]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted.append({"path": self.path, **json.loads(body)})
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/hook"
        connection = {"conn_type": "http", "host": address}
        settings = {"AIRFLOW_CONN_OPS": json.dumps(connection), "RECMETA_NOTIFIER": "webhook:ops"}
        try:
            yield settings, posted
        finally:
            server.shutdown()
