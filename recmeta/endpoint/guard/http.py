"""HTTP/1.1 on one connection, within limits of bytes and of time.

Requests are processed one at a time: pipelined requests stay with the client, except for one read.
Any fault that is found before the application is called is answered with a problem, and the
connection ends. A request for which there is no time is refused, and the connection stays.
"""

import asyncio
import functools
import http
import logging
from collections.abc import Iterable
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from recmeta.endpoint.guard.connections import Connections
from recmeta.endpoint.guard.exchange import Address, Exchange
from recmeta.endpoint.guard.problems import problem, retry_after
from recmeta.endpoint.guard.requests import Request, RequestParser, RequestRefused

log = logging.getLogger(__name__)
LINGER_SECONDS = 2.0
"""How long arriving bytes are discarded after the last answer, so that a client that is still
sending gets to read it."""
LINGER_BYTES = 1_048_576
"""The same, in bytes."""
RETRY_SECONDS = 1
MORE_PLACES = "more_places"
"""The key in a request's state of the places that the application took with
`Admission.take_more`."""
STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in http.HTTPStatus}


class Connection(asyncio.BufferedProtocol):
    """One connection. Uvicorn makes one for each that it accepts."""

    transport: asyncio.Transport

    def __init__(
        self,
        connections: Connections,
        *,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.connections = connections
        self.limits = connections.config
        self.client: str | None = None
        self.deadline = 0.0
        self._app = config.loaded_app
        self._server = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._addresses: tuple[Address, Address] = (None, None)
        self._parser = RequestParser(self.limits)
        self._exchange: Exchange | None = None
        """The request that is being answered."""
        self._ahead = b""
        """The bytes that the client sent after it."""
        self._is_resting = False
        self._closing = False
        self._thrown_away = 0
        self._reads = True
        self._writable = asyncio.Event()
        self._writable.set()
        self._request_ends = 0.0
        self._idle_ends = 0.0

    # Events of the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept the client, or refuse it."""
        self.transport = cast(asyncio.Transport, transport)
        names = (transport.get_extra_info(name) for name in ("sockname", "peername"))
        mine, peer = (tuple(n[:2]) if isinstance(n, tuple) else None for n in names)
        self._addresses = mine, peer
        self.client = self.connections.client(None if peer is None else peer[0])
        self.deadline = self._loop.time() + self.limits.header_seconds
        if not self.connections.admit(self):
            self.connections.refused("connections")
            self._closing = True
            self._write_problem(503, "there are too many connections: try again in a second.")
            self.transport.close()
            return
        self._server.connections.add(cast(Any, self))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and stop answering: nobody waits for it any more."""
        self._closing = True
        self._forget()
        self._writable.set()
        if self._exchange is not None:
            self._exchange.abandon()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go: one place for all, since they are taken at once."""
        return self.connections.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes that have arrived."""
        self._take(bytes(self.connections.buffer[:nbytes]))

    def eof_received(self) -> bool:
        """Finish the answer to a client that has stopped sending; close if there is none."""
        if self._closing or self._exchange is None:
            return False
        self._exchange.keep_alive = False
        return True

    def pause_writing(self) -> None:
        """Note that the client reads too slowly: now the server waits for it."""
        self._writable.clear()
        self.connections.waits(self)

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        self._writable.set()
        if self._exchange is not None:
            self.connections.works(self)
        self._go_on()

    def shutdown(self) -> None:
        """Close once no request is in progress; uvicorn calls this before it stops."""
        if self._exchange is None:
            self._close()
        else:
            self._exchange.keep_alive = False

    # Events of `Connections`.

    def expire(self) -> None:
        """Deal with a deadline that has passed."""
        limits = self.limits
        if self._closing:
            self._abort()
        elif self._exchange is not None:
            detail = f"the request took longer than {limits.request_seconds:g} s."
            self._refuse(RequestRefused(503, "request_time", detail))
        elif self._parser.has_head:
            detail = f"the body took longer than {limits.body_seconds:g} s to arrive."
            self._refuse(RequestRefused(408, "body_time", detail))
        elif self._parser.has_begun:
            detail = f"the headers took longer than {limits.header_seconds:g} s to arrive."
            self._refuse(RequestRefused(408, "header_time", detail))
        elif self.transport.get_write_buffer_size():
            self._abort()
        elif self._loop.time() < self._idle_ends:
            self.deadline = self._idle_ends
        else:
            self._close()

    def give_way(self) -> None:
        """Close at once."""
        self._abort()

    # Bytes in.

    def _take(self, data: bytes) -> None:
        """Process bytes that have arrived, as far as possible now."""
        while data:
            if self._closing:
                self._thrown_away += len(data)
                if self._thrown_away > LINGER_BYTES:
                    self._abort()
                return
            if self._is_occupied():
                self._ahead += data
                self._pause()
                return
            data = self._parse(data)

    def _parse(self, data: bytes) -> bytes:
        """Parse some of a request, update its deadlines, and begin to answer it when it is
        complete; return the bytes after it."""
        parser, limits, now = self._parser, self.limits, self._loop.time()
        had_begun, had_head = parser.has_begun, parser.has_head
        try:
            data = parser.feed(data)
        except RequestRefused as refused:
            self._refuse(refused)
            return b""
        if parser.has_begun and not had_begun:
            self.deadline = now + limits.header_seconds
            self._request_ends = now + limits.request_seconds
        if parser.is_whole:
            request = parser.request
            parser.clear()
            self._begin(request)
        elif parser.has_head and not had_head:
            self.deadline = min(now + limits.body_seconds, self._request_ends)
            if (parser.request.header(b"expect") or b"").lower() == b"100-continue":
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return data

    def _begin(self, request: Request) -> None:
        """Begin to answer a request, or refuse it if there is no time for it."""
        place, connections = None, self.connections
        if request.method == "POST" and connections.may_ask(request.header(b"authorization")):
            place = connections.admission.take()
            if place is None:
                self._send_away(request.keep_alive)
                return
        exchange = self._exchange = Exchange(request, self, self._request_ends)
        self.deadline = self._request_ends
        connections.works(self)
        exchange.task = self._loop.create_task(self._answer(exchange, place, self._loop.time()))
        self._server.tasks.add(exchange.task)
        exchange.task.add_done_callback(self._server.tasks.discard)

    async def _answer(self, exchange: Exchange, place: int | None, began: float) -> None:
        scope = exchange.scope(*self._addresses, self._app_state)
        try:
            await self._app(cast(Any, scope), cast(Any, exchange.receive), exchange.send)
        except Exception:
            log.exception("the application failed")
        finally:
            if place is not None:
                seconds = self._loop.time() - began if exchange.status == 200 else None
                more = scope["state"].get(MORE_PLACES, 0)
                self.connections.admission.done(place, seconds, more)
            # Said already, unless the application was too late, failed or was cancelled.
            if self._exchange is exchange and not exchange.is_complete:
                self._abort()

    def _send_away(self, keep_alive: bool) -> None:
        """Refuse a request without calling the application, which would cost more time than there
        is."""
        self.connections.metrics.shed.labels("queue").inc()
        self._server.total_requests += 1
        detail = "the queue is full: try again in a second."
        self._write_problem(503, detail, keep_alive=keep_alive)
        if keep_alive:
            self._rest()
        else:
            self._linger()

    def _is_occupied(self) -> bool:
        """Return whether what arrives has to wait."""
        return self._exchange is not None or self._is_resting or not self._writable.is_set()

    def _go_on(self) -> None:
        """Process pipelined bytes, or read more."""
        if self._closing or self._is_occupied():
            return
        ahead, self._ahead = self._ahead, b""
        if not self._reads and not self.transport.is_closing():
            self._reads = True
            self.transport.resume_reading()
        self._take(ahead)

    def _pause(self) -> None:
        if self._reads and not self.transport.is_closing():
            self._reads = False
            self.transport.pause_reading()

    # Bytes out.

    def write(self, data: bytes) -> None:
        """Send, unless it is too late for that."""
        if not self.transport.is_closing():
            self.transport.write(data)

    async def writable(self) -> None:
        """Wait until the client has read most of what was sent."""
        await self._writable.wait()

    def head(self, status: int, headers: Iterable[tuple[bytes, bytes]], keep_alive: bool) -> bytes:
        """Return the head of an answer."""
        parts = [STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n".encode()]
        parts += [b"%b: %b\r\n" % one for one in (*self._server.default_headers, *headers)]
        parts.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
        return b"".join(parts)

    def answered(self) -> None:
        """Go on after the last byte of an answer."""
        exchange, self._exchange = self._exchange, None
        self._server.total_requests += 1
        if exchange is not None and exchange.keep_alive:
            self._idle()
            self._go_on()
        else:
            self._close()

    def _refuse(self, refused: RequestRefused) -> None:
        """Answer with a problem instead of the application, and end."""
        self.connections.refused(refused.reason)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon()
            if exchange.status is not None:
                self._abort()
                return
        self._write_problem(refused.status, refused.detail)
        self._linger()

    def _write_problem(self, status: int, detail: str, *, keep_alive: bool = False) -> None:
        headers, body = _problem(status, detail)
        self.write(self.head(status, headers, keep_alive) + body)

    # Between requests, and the end.

    def _idle(self) -> None:
        """Wait for the next request."""
        self._idle_ends = self._loop.time() + self.limits.idle_seconds
        is_sent = not self.transport.get_write_buffer_size()
        self.deadline = self._idle_ends if is_sent else self._request_ends
        self.connections.waits(self)

    def _rest(self) -> None:
        """Wait for the next request, but leave it with the client for a moment."""
        self._idle()
        if self.limits.pause_ms:
            self._is_resting = True
            self._pause()
            self._loop.call_later(self.limits.pause_ms / 1e3, self._is_rested)

    def _is_rested(self) -> None:
        self._is_resting = False
        self._go_on()

    def _linger(self) -> None:
        """Send no more; close when the client does, or soon."""
        self._parser.clear()
        self._ahead = b""
        self._closing = True
        self.deadline = self._loop.time() + LINGER_SECONDS
        self.connections.waits(self)
        if not self.transport.is_closing():
            if self.transport.can_write_eof():
                self.transport.write_eof()
            if not self._reads:
                self._reads = True
                self.transport.resume_reading()

    def _close(self) -> None:
        """Close when all is sent."""
        self._closing = True
        self.deadline = max(self._request_ends, self._loop.time() + LINGER_SECONDS)
        self.connections.waits(self)
        self.transport.close()

    def _abort(self) -> None:
        """Close at once."""
        self._closing = True
        self._forget()
        self.transport.abort()

    def _forget(self) -> None:
        self.connections.leave(self)
        self._server.connections.discard(cast(Any, self))


@functools.lru_cache(256)
def _problem(status: int, detail: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return the headers and the body of an answer that says what is wrong."""
    headers = retry_after(RETRY_SECONDS) if status == 503 else {}
    answer = problem(status, detail, headers=headers)
    return list(answer.raw_headers), bytes(answer.body)
