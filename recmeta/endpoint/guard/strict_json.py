"""JSON as RFC 8259 has it, without repeated names: Python's own parser takes NaN and Infinity,
nests without end, and of two values of one name keeps the last, where others keep the first."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

import pydantic_core
from fastapi import Request, Response
from fastapi.routing import APIRoute


class StrictJsonRequest(Request):
    """A request whose body is parsed strictly."""

    async def json(self) -> Any:
        """Return the body's value.

        Raises:
            json.JSONDecodeError: which FastAPI turns into a validation error.
        """
        body = await self.body()
        try:
            found = pydantic_core.from_json(body, allow_inf_nan=False)
            # Only for the names, and safe by now.
            _NAMES.decode(body.decode())
        except (ValueError, RecursionError) as error:
            raise json.JSONDecodeError(str(error), "", 0) from error
        return found


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    """Check that no name of an object comes twice."""
    if len({name for name, _ in pairs}) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the name {name:.60s} comes twice in one object")
            seen.add(name)


_NAMES = json.JSONDecoder(object_pairs_hook=_distinct)


class StrictJsonRoute(APIRoute):
    """A route that hands strict requests to its endpoint."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler behind the strict request."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(StrictJsonRequest(request.scope, request.receive))

        return strict
