"""HTTP/1.1 on one connection, within limits of bytes and of time.

Requests are worked on one at a time: what a client sends ahead stays with the client, but for one
read. A head (request line and headers) is collected up to its limit and then parsed at once, by
llhttp, which is strict about everything that two servers might understand differently. Whatever is
amiss before the application is asked is answered with a problem, and the connection ends.
"""

import asyncio
import functools
import http
import logging
import urllib.parse
from collections.abc import Iterable
from typing import Any, cast

import httptools
import uvicorn
from starlette.types import Message, Scope
from uvicorn.server import ServerState

from recmeta.endpoint.guard.connections import Connections
from recmeta.endpoint.guard.problems import problem, retry_after

log = logging.getLogger(__name__)
END = b"\r\n\r\n"
VERSIONS = (b" HTTP/1.1", b" HTTP/1.0")
LINGER_SECONDS = 2.0
"""How long what still arrives is thrown away after the last answer, so that the client, who is
still sending, gets to read it."""
LINGER_BYTES = 1_048_576
"""The same, in bytes."""
HELD_BODY_BYTES = 65_536
"""Of a body, before the application takes it."""
RETRY_SECONDS = 1
STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in http.HTTPStatus}
Headers = list[tuple[bytes, bytes]]


class Connection(asyncio.BufferedProtocol):
    """One connection. Uvicorn makes one for each that it accepts."""

    transport: asyncio.Transport
    _url: bytes
    _headers: Headers
    _num_messages: int
    _has_head: bool
    _is_whole: bool
    _keep_alive: bool
    _body_left: int | None
    """Bytes of the body that are to come, where its length was said."""
    _body_bytes: int
    """Bytes of the body that have come, with what frames them."""

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
        self._parser = httptools.HttpRequestParser(self)
        self._addresses: tuple[Any, Any] = (None, None)
        self._head = bytearray()
        self._ahead = b""
        """What the client sent behind the request that is being answered."""
        self._request: _Request | None = None
        self._skips = False
        """Whether the body that arrives belongs to a request that was sent away already."""
        self._is_resting = False
        self._closing = False
        self._thrown_away = 0
        self._reads = True
        self._writable = asyncio.Event()
        self._writable.set()
        self._request_ends = 0.0
        self._idle_ends = 0.0
        self._new_message()

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the client in, or send it away."""
        self.transport = cast(asyncio.Transport, transport)
        names = (transport.get_extra_info(name) for name in ("sockname", "peername"))
        mine, peer = (tuple(n[:2]) if isinstance(n, tuple) else None for n in names)
        self._addresses = mine, peer
        self.client = self.connections.client(None if peer is None else peer[0])
        self.deadline = self._loop.time() + self.limits.header_seconds
        if not self.connections.admit(self):
            self.connections.refused("connections")
            self._closing = True
            self._write_problem(503, "there are too many connections: come again in a second.")
            self.transport.close()
            return
        self._server.connections.add(cast(Any, self))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and tell a request on its way."""
        self._closing = True
        self._forget()
        self._writable.set()
        if self._request is not None:
            self._request.disconnect()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go: one place for all, since they are taken at once."""
        return self.connections.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes that have arrived."""
        self._take(bytes(self.connections.buffer[:nbytes]))

    def eof_received(self) -> bool:
        """Finish the answer to a whole request of a client that sends no more; else close."""
        request = self._request
        if self._closing or request is None or not request.whole:
            return False
        request.keep_alive = False
        return True

    def pause_writing(self) -> None:
        """Note that the client reads too slowly: now the server waits for it."""
        self._writable.clear()
        self.connections.waits(self)

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        self._writable.set()
        if self._request is not None and self._request.whole:
            self.connections.works(self)
        self._go_on()

    def shutdown(self) -> None:
        """Close once nothing is on its way; uvicorn calls it before it stops."""
        if self._request is None:
            self._close()
        else:
            self._request.keep_alive = False

    # What the connections tell.

    def expire(self) -> None:
        """Deal with a deadline that has passed."""
        now, request = self._loop.time(), self._request
        if self._closing:
            self._abort()
        elif request is not None:
            told = f"the request took longer than {self.limits.request_seconds:g} s."
            self._refuse(503 if request.whole else 408, "request_time", told)
        elif self._head:
            told = f"the headers took longer than {self.limits.header_seconds:g} s to arrive."
            self._refuse(408, "header_time", told)
        elif self._skips or self.transport.get_write_buffer_size():
            self._abort()
        elif now < self._idle_ends:
            self.deadline = self._idle_ends
        else:
            self._close()

    def give_way(self) -> None:
        """Close at once."""
        self._abort()

    # What the parser tells.

    def on_message_begin(self) -> None:
        """Count messages: more than one at a time are not taken."""
        self._num_messages += 1

    def on_url(self, url: bytes) -> None:
        """Collect the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header; those behind a body are of no use."""
        if not self._has_head:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Note that the head is whole, and what the parser forgets at the message's end."""
        if not self._has_head:
            self._has_head = True
            self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        """Hand a part of the body on."""
        request = self._request
        if request is None or self._is_whole:
            return
        request.body += body
        request.news.set()
        if len(request.body) > HELD_BODY_BYTES:
            self._pause()

    def on_message_complete(self) -> None:
        """Hand the request on as a whole."""
        self._is_whole = True
        if self._request is not None and not self._request.whole:
            self._got_whole(self._request)

    # Requests.

    def _new_message(self) -> None:
        self._url = b""
        self._headers = []
        self._num_messages = 0
        self._has_head = self._is_whole = self._keep_alive = False
        self._body_left = None
        self._body_bytes = 0

    def _take(self, data: bytes) -> None:
        """Work through bytes that have arrived, as far as can be now."""
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
            if self._request is not None or self._skips:
                data = self._take_body(data)
            else:
                data = self._take_head(data)

    def _take_head(self, data: bytes) -> bytes:
        """Collect a head, and return what is behind it."""
        limits = self.limits
        if not self._head:
            data = data.lstrip(b"\r\n")  # some clients send these behind a body
            if not data:
                return b""
            now = self._loop.time()
            self.deadline = now + limits.header_seconds
            self._request_ends = now + limits.request_seconds
        searched = max(0, len(self._head) - len(END) + 1)
        self._head += data
        if not 65 <= self._head[0] <= 90:
            self._refuse(400, "malformed", "this is no HTTP request.")
            return b""
        end = self._head.find(END, searched)
        size = len(self._head) if end < 0 else end + len(END)
        line_end = self._head.find(b"\r\n", 0, limits.max_url_bytes + 2)
        if line_end < 0 and size > limits.max_url_bytes:
            told = f"the request line may have {limits.max_url_bytes:,} bytes."
            self._refuse(414, "url", told)
            return b""
        if size > limits.max_header_bytes:
            told = f"the request line and headers may have {limits.max_header_bytes:,} bytes."
            self._refuse(431, "headers", told)
            return b""
        if end < 0:
            return b""
        head, behind = bytes(self._head[:size]), bytes(self._head[size:])
        self._head.clear()
        self._begin(head, head[:line_end])
        return behind

    def _begin(self, head: bytes, line: bytes) -> None:
        """Begin to answer the request of a head."""
        self._new_message()
        upgrades = False
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            upgrades = True  # which is not taken up; the parser is of no use any more
        except httptools.HttpParserError as error:
            self._refuse(400, "malformed", f"this is no HTTP request: {error}.")
            return
        amiss = self._amiss(line)
        if amiss is not None:
            self._refuse(*amiss)
            return
        keep_alive = self._keep_alive and not upgrades and line.endswith(VERSIONS[0])
        method = self._parser.get_method().decode("ascii")
        if method == "POST" and not upgrades and self.connections.is_full():
            self._send_away(keep_alive)
            return
        raw_path, _, query = self._url.partition(b"?")
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": line[-3:].decode("ascii"),
            "server": self._addresses[0],
            "client": self._addresses[1],
            "scheme": "http",
            "root_path": "",
            "headers": self._headers,
            "state": self._app_state.copy(),
            "method": method,
            "path": urllib.parse.unquote(raw_path.decode("ascii")),
            "raw_path": raw_path,
            "query_string": query,
        }
        request = self._request = _Request(self, scope, keep_alive)
        self.deadline = self._request_ends
        request.task = self._loop.create_task(self._answer(request))
        self._server.tasks.add(request.task)
        request.task.add_done_callback(self._server.tasks.discard)
        if self._is_whole:
            self._got_whole(request)

    def _amiss(self, line: bytes) -> tuple[int, str, str] | None:
        """Return status, reason and explanation where the head is not to be answered."""
        if not self._has_head or self._num_messages != 1 or not line.endswith(VERSIONS):
            return 400, "malformed", "this is no request of HTTP/1.1 or HTTP/1.0."
        if len(self._headers) > self.limits.max_headers:
            return 431, "headers", f"a request may have {self.limits.max_headers} headers."
        if not self._url.startswith(b"/") or b"#" in self._url:
            return 400, "malformed", "the request's target must be a path of this server."
        names = [name for name, _ in self._headers]
        hosts = names.count(b"host")
        if hosts > 1 or (hosts == 0 and line.endswith(VERSIONS[0])):
            return 400, "malformed", "a request has one header `Host`."
        for name, value in self._headers:
            if name == b"content-length":
                self._body_left = int(value)
            if name == b"transfer-encoding" and (
                value.lower() != b"chunked" or not line.endswith(VERSIONS[0])
            ):
                return 501, "malformed", "of transfer encodings only `chunked` is known."
        return None

    def _take_body(self, data: bytes) -> bytes:
        """Feed the parser with the body, and return what is behind it."""
        left, limit = self._body_left, self.limits.max_body_bytes
        part, behind = (data, b"") if left is None else (data[:left], data[left:])
        if left is not None:
            self._body_left = left - len(part)
        self._body_bytes += len(part)
        if self._body_bytes > 2 * limit + self.limits.max_header_bytes:  # with frames of chunks
            self._refuse(413, "body", f"the body may have {limit:,} bytes.")
            return b""
        try:
            self._parser.feed_data(part)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._refuse(400, "malformed", f"the body cannot be read: {error}.")
            return b""
        if self._num_messages > 1 and self._request is not None:
            self._request.keep_alive = False  # the end of chunks is not known beforehand
        if self._is_whole and self._skips:
            self._skips = False
            if self._num_messages > 1:
                self._close()
            else:
                self._rest()
        return behind

    def _got_whole(self, request: "_Request") -> None:
        request.whole = True
        request.news.set()
        self.connections.works(self)

    def _send_away(self, keep_alive: bool) -> None:
        """Refuse an answer without asking the application, which would cost more time than there
        is."""
        self.connections.metrics.shed.labels("queue").inc()
        long = self._body_left is not None and self._body_left > self.limits.max_body_bytes
        keep_alive = keep_alive and not long
        told = "the queue is full: come again in a second."
        self._write_problem(503, told, keep_alive=keep_alive)
        self._server.total_requests += 1
        if not keep_alive:
            self._linger()
        elif self._is_whole:
            self._rest()
        else:
            self._skips = True
            self.deadline = self._loop.time() + self.limits.body_seconds

    async def _answer(self, request: "_Request") -> None:
        try:
            await self._app(cast(Any, request.scope), cast(Any, request.receive), request.send)
        except Exception:
            log.exception("the application failed")
        finally:
            # Said already, unless the application was too late, failed or was cancelled.
            if self._request is request and not request.complete:
                self._abort()

    def answered(self, request: "_Request") -> None:
        """Go on after the last byte of an answer."""
        self._request = None
        self._server.total_requests += 1
        if not request.whole:
            self._linger()
        elif request.keep_alive:
            self._idle()
            self._go_on()
        else:
            self._close()

    # Bytes out, and the end.

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

    def resume(self) -> None:
        """Read on."""
        if not self._reads and not self.transport.is_closing():
            self._reads = True
            self.transport.resume_reading()

    def _pause(self) -> None:
        if self._reads and not self.transport.is_closing():
            self._reads = False
            self.transport.pause_reading()

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

    def _is_occupied(self) -> bool:
        """Return whether what arrives has to wait."""
        is_answered = self._request is not None and self._request.whole
        return is_answered or self._is_resting or not self._writable.is_set()

    def _go_on(self) -> None:
        """Work on what was sent ahead, or read more."""
        if self._request is not None or self._closing or self._is_occupied():
            return
        ahead, self._ahead = self._ahead, b""
        self.resume()
        self._take(ahead)

    def _refuse(self, status: int, reason: str, detail: str) -> None:
        """Answer with a problem in the application's place, and end."""
        self.connections.refused(reason)
        request, self._request = self._request, None
        if request is not None:
            request.abandon()
            if request.started:
                self._abort()
                return
        if not self._skips:
            self._write_problem(status, detail)
        self._linger()

    def _write_problem(self, status: int, detail: str, *, keep_alive: bool = False) -> None:
        headers, body = _problem(status, detail)
        self.write(self.head(status, headers, keep_alive) + body)

    def _linger(self) -> None:
        """Send no more; close when the client does, or soon."""
        self._head.clear()
        self._ahead = b""
        self._closing = True
        self.deadline = self._loop.time() + LINGER_SECONDS
        self.connections.waits(self)
        if not self.transport.is_closing():
            if self.transport.can_write_eof():
                self.transport.write_eof()
            self.resume()

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


class _Request:
    """A request and its answer, as ASGI has them."""

    task: "asyncio.Task[None]"

    def __init__(self, connection: Connection, scope: Scope, keep_alive: bool) -> None:
        self.connection = connection
        self.scope = scope
        self.keep_alive = keep_alive
        self.body = bytearray()
        self.news = asyncio.Event()
        self.whole = False
        """Whether all of it has arrived."""
        self.started = False
        """Whether the answer has begun."""
        self.complete = False
        """Whether the answer has ended, or nobody waits for it."""
        self._waits_for_100 = any(
            name == b"expect" and value.lower() == b"100-continue"
            for name, value in scope["headers"]
        )
        self._start: Message | None = None

    def disconnect(self) -> None:
        """Note that the client has gone."""
        self.complete = True
        self.news.set()

    def abandon(self) -> None:
        """Stop answering."""
        self.disconnect()
        self.task.cancel()

    async def receive(self) -> Message:
        """Return a part of the body, or that the client has gone."""
        if self._waits_for_100 and not self.started and not self.whole:
            self._waits_for_100 = False
            self.connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self.complete:
            self.connection.resume()
            await self.news.wait()
            self.news.clear()
        if self.complete:
            return {"type": "http.disconnect"}
        body, self.body = bytes(self.body), bytearray()
        return {"type": "http.request", "body": body, "more_body": not self.whole}

    async def send(self, message: Any) -> None:
        """Send a part of the answer."""
        await self.connection.writable()
        if self.complete:
            return
        if message["type"] == "http.response.start":
            self._start = message
            return
        head = b""
        if self._start is not None:
            head, self._start = self._head(self._start), None
            self.started = True
        is_last = not message.get("more_body", False)
        body = b"" if self.scope["method"] == "HEAD" else message.get("body", b"")
        self.connection.write(head + body)
        if is_last:
            self.complete = True
            self.news.set()
            self.connection.answered(self)

    def _head(self, start: Message) -> bytes:
        """Return the answer's head. Without a length, its end is the connection's."""
        headers = [(name.lower(), value) for name, value in start["headers"]]
        names = {name for name, _ in headers}
        has_end = b"content-length" in names or start["status"] in (204, 304)
        self.keep_alive = self.keep_alive and self.whole and has_end
        return self.connection.head(start["status"], headers, self.keep_alive)


@functools.lru_cache(256)
def _problem(status: int, detail: str) -> tuple[Headers, bytes]:
    """Return the headers and the body of an answer that says what is wrong."""
    headers = retry_after(RETRY_SECONDS) if status == 503 else {}
    answer = problem(status, detail, headers=headers)
    return list(answer.raw_headers), bytes(answer.body)
