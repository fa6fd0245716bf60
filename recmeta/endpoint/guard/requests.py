"""HTTP/1.1 requests out of the bytes of a connection, within limits.

A head (request line and headers) is collected up to its limit and then parsed at once, by llhttp,
which is strict about everything that two servers might understand differently; so is the body. A
request is handed on when all of it is there. There are no sockets here, and no clock.
"""

import dataclasses

import httptools

from recmeta.endpoint.config import EndpointConfig

END = b"\r\n\r\n"
NEWEST = b" HTTP/1.1"
VERSIONS = (NEWEST, b" HTTP/1.0")


class RequestRefused(Exception):
    """A request that the application must not answer; its connection has to end."""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        """
        Args:
            status: of the answer.
            reason: for the metrics.
            detail: for the client.
        """
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail


@dataclasses.dataclass(slots=True)
class Request:
    """A request, whole once `RequestParser.is_whole`."""

    method: str = ""
    target: bytes = b""
    version: str = "1.1"
    headers: list[tuple[bytes, bytes]] = dataclasses.field(default_factory=list)
    """Names are in lower case."""
    body: bytearray = dataclasses.field(default_factory=bytearray)
    keep_alive: bool = False
    """Whether the connection may go on after the answer."""

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of a header, by its name in lower case."""
        return next((value for known, value in self.headers if known == name), None)


class RequestParser:
    """Parses one request after another."""

    def __init__(self, limits: EndpointConfig) -> None:
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self._head = bytearray()
        self.clear()

    def clear(self) -> None:
        """Begin with a new request."""
        self.request = Request()
        self.has_head = self.is_whole = False
        self._head.clear()
        self._num_messages = 0
        self._body_left: int | None = None
        """Bytes of the body that are still to come, if its length was given."""
        self._body_bytes = 0
        """Bytes of the body that have come, with what frames them."""

    @property
    def has_begun(self) -> bool:
        """Whether a part of a request has arrived."""
        return self.has_head or bool(self._head)

    def feed(self, data: bytes) -> bytes:
        """Take bytes of a request, and return those after it.

        Raises:
            RequestRefused: if it is not a request, or exceeds a limit.
        """
        if not self.has_begun:
            data = data.lstrip(b"\r\n")  # some clients send these behind a body
        if data and not self.has_head:
            data = self._feed_head(data)
        if data and self.has_head and not self.is_whole:
            data = self._feed_body(data)
        return data

    # What llhttp tells.

    def on_message_begin(self) -> None:
        """Count messages: more than one at a time are not taken."""
        self._num_messages += 1

    def on_url(self, url: bytes) -> None:
        """Collect the target."""
        if not self.has_head:
            self.request.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header; those behind a body are of no use."""
        if not self.has_head:
            self.request.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Note that the head is whole, and what the parser forgets at the message's end."""
        if not self.has_head:
            self.has_head = True
            self.request.keep_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        """Collect the body."""
        if not self.is_whole:
            self.request.body += body

    def on_message_complete(self) -> None:
        """Note that the request is whole."""
        self.is_whole = True

    def _feed_head(self, data: bytes) -> bytes:
        """Collect the head, and parse it when it is whole; return what is behind it."""
        limits = self._limits
        searched = max(0, len(self._head) - len(END) + 1)
        self._head += data
        if not 65 <= self._head[0] <= 90:
            raise RequestRefused(400, "malformed", "this is not an HTTP request.")
        end = self._head.find(END, searched)
        size = len(self._head) if end < 0 else end + len(END)
        line_end = self._head.find(b"\r\n", 0, limits.max_url_bytes + 2)
        if line_end < 0 and size > limits.max_url_bytes:
            detail = f"the request line may have at most {limits.max_url_bytes:,} bytes."
            raise RequestRefused(414, "url", detail)
        if size > limits.max_header_bytes:
            detail = (
                f"the request line and headers may have at most {limits.max_header_bytes:,} bytes."
            )
            raise RequestRefused(431, "headers", detail)
        if end < 0:
            return b""
        head, behind = bytes(self._head[:size]), bytes(self._head[size:])
        self._head.clear()
        self._parse_head(head, head[:line_end])
        return behind

    def _parse_head(self, head: bytes, line: bytes) -> None:
        request = self.request
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:  # is not taken up; llhttp is of no use any more
            self.is_whole = True
            request.keep_alive = False
        except httptools.HttpParserError as error:
            raise RequestRefused(
                400, "malformed", f"this is not an HTTP request: {error}."
            ) from None
        is_newest = line.endswith(NEWEST)
        if not self.has_head or self._num_messages != 1 or not line.endswith(VERSIONS):
            raise RequestRefused(400, "malformed", "this is not an HTTP/1.1 or HTTP/1.0 request.")
        if len(request.headers) > self._limits.max_headers:
            detail = f"a request may have at most {self._limits.max_headers} headers."
            raise RequestRefused(431, "headers", detail)
        if not request.target.startswith(b"/") or b"#" in request.target:
            raise RequestRefused(
                400, "malformed", "the request's target must be a path of this server."
            )
        hosts = sum(name == b"host" for name, _ in request.headers)
        if hosts > 1 or (hosts == 0 and is_newest):
            raise RequestRefused(400, "malformed", "a request must have exactly one header `Host`.")
        coding = request.header(b"transfer-encoding")
        if coding is not None and (coding.lower() != b"chunked" or not is_newest):
            raise RequestRefused(
                501, "malformed", "the only transfer encoding that is accepted is `chunked`."
            )
        length = request.header(b"content-length")
        if length is not None:
            self._body_left = int(length)
            self._check_length(self._body_left)
        request.method = self._parser.get_method().decode("ascii")
        request.version = line[-3:].decode("ascii")
        request.keep_alive = request.keep_alive and is_newest

    def _feed_body(self, data: bytes) -> bytes:
        """Parse some of the body, and return what is behind it."""
        left, limits = self._body_left, self._limits
        part, behind = (data, b"") if left is None else (data[:left], data[left:])
        if left is not None:
            self._body_left = left - len(part)
        self._body_bytes += len(part)
        if self._body_bytes > 2 * limits.max_body_bytes + limits.max_header_bytes:
            self._check_length(self._body_bytes)  # with what frames its chunks
        try:
            self._parser.feed_data(part)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise RequestRefused(400, "malformed", f"the body cannot be read: {error}.") from None
        self._check_length(len(self.request.body))
        if self._num_messages > 1:  # the end of chunks is not known beforehand
            self.request.keep_alive = False
        return behind

    def _check_length(self, length: int) -> None:
        if length > self._limits.max_body_bytes:
            detail = f"the body may have at most {self._limits.max_body_bytes:,} bytes."
            raise RequestRefused(413, "body", detail)
