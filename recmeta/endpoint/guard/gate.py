"""Who comes in: keys, rates, and bodies of a length that can be borne. What is not listed as open
is closed."""

import asyncio
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recmeta.endpoint.config import EndpointConfig
from recmeta.endpoint.guard.keys import LOOPBACK, ApiKeys
from recmeta.endpoint.guard.problems import problem, retry_after
from recmeta.endpoint.guard.rate import RateLimit
from recmeta.endpoint.operation.metrics import Metrics

CHALLENGE = {"WWW-Authenticate": "Bearer"}
NOBODY = "anyone"


class Gate:
    """ASGI middleware in front of the application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: ApiKeys | None,
        open_paths: Collection[str],
        config: EndpointConfig,
        metrics: Metrics,
    ) -> None:
        """
        Args:
            keys: None lets in whoever is on this machine.
            open_paths: need no key.
        """
        self.app = app
        self.keys = keys
        self.open_paths = frozenset(open_paths)
        self.config = config
        self.metrics = metrics
        self.rate = RateLimit(config.requests_per_second, config.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or say why not."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # there are no web sockets
        headers = Headers(scope=scope)
        refused = self._refusal(scope, headers)
        if refused is None and scope["method"] not in ("GET", "HEAD"):
            try:
                async with asyncio.timeout(self.config.body_seconds):
                    body, refused = await self._body(headers, receive)
            except TimeoutError:
                refused = problem(
                    408, f"the body took longer than {self.config.body_seconds:g} s to arrive."
                )
            except ClientDisconnect:
                return
            if refused is None:
                receive = _replayed(body, receive)
        await (self.app if refused is None else refused)(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        # A page elsewhere could have its own name resolve to this machine, and read answers.
        if self.keys is None and _hostname(headers) not in LOOPBACK:
            return problem(403, "without API keys only this machine is served.")
        if scope["path"] in self.open_paths:
            return None
        name: str | None = NOBODY
        if self.keys is not None:
            name = self.keys.name_of(_presented(headers))
        if name is None:
            return problem(
                401, "send a valid key as `Authorization: Bearer KEY`.", headers=CHALLENGE
            )
        scope["state"]["log"]["key"] = name
        wait = self.rate.seconds_to_wait(name)
        if wait:
            self.metrics.shed.labels("rate").inc()
            return problem(
                429,
                f"this key may send {self.config.requests_per_second:g} requests a second.",
                headers=retry_after(wait),
            )
        return None

    async def _body(self, headers: Headers, receive: Receive) -> tuple[bytes, Response | None]:
        most = self.config.max_body_bytes
        too_long = problem(413, f"the body may have {most:,} bytes.")
        said = headers.get("content-length", "0")
        if not said.isdecimal() or int(said) > most:
            return b"", too_long
        parts: list[bytes] = []
        length = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            parts.append(message.get("body", b""))
            length += len(parts[-1])
            if length > most:
                return b"", too_long
            if not message.get("more_body", False):
                break
        body = b"".join(parts)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if body and kind != "application/json":
            return b"", problem(415, "send the body as `Content-Type: application/json`.")
        return body, None


def _hostname(headers: Headers) -> str | None:
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname
    except ValueError:
        return None


def _presented(headers: Headers) -> str | None:
    """Return the key of a request, if there is one."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read already, then goes on."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
