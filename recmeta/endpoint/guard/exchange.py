"""A request and its answer, as ASGI has them."""

import asyncio
import urllib.parse
from collections.abc import Iterable
from typing import Any, Protocol

from starlette.types import Message, Scope

from recmeta.endpoint.guard.requests import Request

Address = tuple[Any, ...] | None


class AnswerWriter(Protocol):
    """Where an answer goes."""

    def head(self, status: int, headers: Iterable[tuple[bytes, bytes]], keep_alive: bool) -> bytes:
        """Return the head of an answer."""
        ...

    def write(self, data: bytes) -> None:
        """Send, unless it is too late for that."""
        ...

    async def writable(self) -> None:
        """Wait until the client has read most of what was sent."""
        ...

    def answered(self) -> None:
        """Go on after the last byte of an answer."""
        ...


class Exchange:
    """Hands a whole request to the application, and its answer to the client."""

    def __init__(self, request: Request, writer: AnswerWriter, ends: float) -> None:
        """
        Args:
            ends: when its time is up, on the loop's clock.
        """
        self.request = request
        self.ends = ends
        self.keep_alive = request.keep_alive
        self.is_complete = False
        """Whether the answer has ended, or nobody waits for it."""
        self.status: int | None = None
        """The status of the answer, once it has begun."""
        self.task: asyncio.Task[None] | None = None
        self._writer = writer
        self._is_over = asyncio.Event()
        self._is_given = False
        self._start: Message | None = None

    def scope(self, server: Address, client: Address, state: dict[str, Any]) -> Scope:
        """Return the request's ASGI scope.

        Args:
            server: its address.
            client: its address.
            state: of the application's lifespan.
        """
        request = self.request
        raw_path, _, query = request.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.version,
            "server": server,
            "client": client,
            "scheme": "http",
            "root_path": "",
            "headers": request.headers,
            "state": state.copy(),
            "method": request.method,
            "path": urllib.parse.unquote(raw_path.decode("ascii")),
            "raw_path": raw_path,
            "query_string": query,
        }

    def disconnect(self) -> None:
        """Note that nobody waits for the answer."""
        self.is_complete = True
        self._is_over.set()

    def abandon(self) -> None:
        """Stop answering."""
        self.disconnect()
        if self.task is not None:
            self.task.cancel()

    async def receive(self) -> Message:
        """Return the body, and from then on wait for the end."""
        if not self._is_given and not self.is_complete:
            self._is_given = True
            body = bytes(self.request.body)
            return {"type": "http.request", "body": body, "more_body": False}
        await self._is_over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Send a part of the answer."""
        await self._writer.writable()
        if self.is_complete:
            return
        if message["type"] == "http.response.start":
            self._start = message
            return
        head = b""
        if self._start is not None:
            head, self._start = self._head(self._start), None
        body = b"" if self.request.method == "HEAD" else message.get("body", b"")
        self._writer.write(head + body)
        if not message.get("more_body", False):
            self.disconnect()
            self._writer.answered()

    def _head(self, start: Message) -> bytes:
        """Begin the answer, and return its head. Without a length, its end is the connection's."""
        self.status = start["status"]
        headers = [(name.lower(), value) for name, value in start["headers"]]
        has_length = any(name == b"content-length" for name, _ in headers)
        self.keep_alive = self.keep_alive and (has_length or start["status"] in (204, 304))
        return self._writer.head(start["status"], headers, self.keep_alive)
