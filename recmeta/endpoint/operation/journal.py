"""What every request gets: an id, a line in the log, a latency, and headers for browsers."""

import logging
import random
import re
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recmeta.endpoint.guard.problems import problem
from recmeta.endpoint.operation.metrics import Metrics

log = logging.getLogger("recmeta.endpoint.requests")
REQUEST_ID = b"x-request-id"
_TRUSTED_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class Journal:
    """ASGI middleware; the outermost."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        fields: dict[str, object] = {}
        scope.setdefault("state", {})["log"] = fields
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (REQUEST_ID, request_id), *HEADERS]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except Exception:
            log.exception("failed", extra={"fields": {"request_id": request_id.decode()}})
            if status:  # too late to say so
                raise
            answer = problem(500, f"this should not have happened; request {request_id.decode()}.")
            await answer(scope, receive, noting)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "none")
            self.metrics.seconds.labels(route, status).observe(seconds)
            about = {
                "request_id": request_id.decode(),
                "method": scope["method"],
                "route": route,
                "status": status,
                "ms": round(seconds * 1e3, 2),
                **fields,
            }
            log.info("request", extra={"fields": about})


def _request_id(scope: Scope) -> bytes:
    """Return the id that the request came with, if it is harmless, else a new one."""
    for name, value in scope["headers"]:
        if name == REQUEST_ID and _TRUSTED_ID.fullmatch(value):
            return bytes(value)
    # Asking the system for randomness would hand the interpreter to the thread that computes.
    return b"%032x" % random.getrandbits(128)  # nosec B311  # no secret
