"""Access control by keys, rates, and the type of the body. Whatever is not listed as open is
closed."""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from recmeta.endpoint.guard.keys import LOOPBACK, ApiKeys, presented
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
        rate: RateLimit,
        metrics: Metrics,
    ) -> None:
        """
        Args:
            keys: if None, anybody on this machine is let in.
            open_paths: need no key.
            rate: how many requests each key may send.
        """
        self.app = app
        self.keys = keys
        self.open_paths = frozenset(open_paths)
        self.rate = rate
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it with the reason."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # there are no web sockets
        refused = self._refusal(scope, Headers(scope=scope))
        await (self.app if refused is None else refused)(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        # A page elsewhere could have its own name resolve to this machine, and read answers.
        if self.keys is None and _hostname(headers) not in LOOPBACK:
            return problem(403, "without API keys only this machine is served.")
        if scope["path"] in self.open_paths:
            return None
        name: str | None = NOBODY
        if self.keys is not None:
            name = self.keys.name_of(presented(headers.get("authorization", "")))
        if name is None:
            return problem(
                401, "send a valid key as `Authorization: Bearer KEY`.", headers=CHALLENGE
            )
        scope["state"]["log"]["key"] = name
        wait = self.rate.seconds_to_wait(name)
        if wait:
            self.metrics.shed.labels("rate").inc()
            return problem(429, self.rate.detail, headers=retry_after(wait))
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if has_body and kind != "application/json":
            return problem(415, "send the body as `Content-Type: application/json`.")
        return None


def _hostname(headers: Headers) -> str | None:
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname
    except ValueError:
        return None
