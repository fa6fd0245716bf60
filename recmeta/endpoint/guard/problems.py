"""Errors in one form everywhere: problem details (RFC 9457)."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from recmeta.endpoint.answers.batcher import ClosingError
from recmeta.endpoint.answers.models import FieldProblem, Problem
from recmeta.errors import FieldError
from recmeta.errors.secrets import masked, secrets_of_environment

CONTENT_TYPE = "application/problem+json"
TITLES = {
    400: "Bad request",
    401: "No valid API key",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "The request did not arrive",
    409: "The id is taken",
    413: "The body is too long",
    414: "The request line is too long",
    415: "Not JSON",
    422: "The request does not fit",
    429: "Too many requests",
    431: "The headers are too long",
    500: "Our mistake",
    501: "Not supported",
    503: "Busy",
}
MOST_ERRORS = 20


def problem(
    status: int,
    detail: str,
    *,
    errors: Sequence[FieldProblem] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return an answer that says what is wrong."""
    title = TITLES.get(status, "Error")
    detail = masked(detail, _secrets())
    body = Problem(title=title, status=status, detail=detail, errors=list(errors))
    return JSONResponse(
        body.model_dump(mode="json"), status, dict(headers or {}), media_type=CONTENT_TYPE
    )


def retry_after(seconds: float) -> dict[str, str]:
    """Return the header that says when to try again."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def add_handlers(app: FastAPI) -> None:
    """Let the application answer every error with a problem."""
    app.add_exception_handler(RequestValidationError, _does_not_fit)
    app.add_exception_handler(FieldError, _field)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClosingError, _closing)


async def _does_not_fit(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(one["type"] == "json_invalid" for one in found):
        return problem(400, f"the body is not JSON: {found[0]['ctx']['error']}")
    fields = [FieldProblem(field=_path(e["loc"]), message=_message(e)) for e in found[:MOST_ERRORS]]
    return problem(422, f"{fields[0].field}: {fields[0].message}", errors=fields)


async def _field(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FieldError)
    fields = [FieldProblem(field=error.field, message=error.message)]
    return problem(422, str(error), errors=fields)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail), headers=error.headers)


async def _closing(request: Request, error: Exception) -> JSONResponse:
    return problem(503, "the server is stopping: try again.", headers=retry_after(1))


_secrets = functools.cache(secrets_of_environment)
"""Read once: a server's environment does not change, and refusing must be cheap."""


def _path(location: Sequence[int | str]) -> str:
    """Return `interactions[3].value` for ("body", "interactions", 3, "value")."""
    first, *rest = location
    parts = rest if first in ("body", "query", "path") and rest else location
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts)
    return text.lstrip(".")


def _message(error: Mapping[str, Any]) -> str:
    """Return pydantic's message, and the value where it is short enough to help."""
    value = error.get("input")
    if error["type"] == "missing":
        return "is missing."
    said = str(error["msg"])
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        said += f", not {value!r:.60}"
    return said + "."
