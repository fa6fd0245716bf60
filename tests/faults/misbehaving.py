"""Servers that accept and then misbehave, one thread a connection."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Literal

Manner = Literal["hangs", "closes", "fails"]
FAILURE = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops"


@contextlib.contextmanager
def misbehaving(manner: Manner) -> Iterator[int]:
    """Serve until the block ends; yield the port.

    Args:
        manner: never answers, closes every connection at once, or answers 500.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        kept: list[socket.socket] = []
        threading.Thread(target=_accept, args=(server, manner, kept), daemon=True).start()
        port: int = server.getsockname()[1]
        yield port
        for connection in kept:
            connection.close()


def _accept(server: socket.socket, manner: Manner, kept: list[socket.socket]) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:  # it is over
            return
        if manner == "hangs":
            kept.append(connection)
        elif manner == "closes":
            connection.close()
        else:
            threading.Thread(target=_fail, args=(connection,), daemon=True).start()


def _fail(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        asked = b""
        while received := connection.recv(65_536):
            asked += received
            if b"\r\n\r\n" in asked:
                connection.sendall(FAILURE)
                asked = b""
