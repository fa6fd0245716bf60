"""Bodies are parsed strictly: see `recmeta.strict_json`."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from recmeta import strict_json


class StrictJsonRequest(Request):
    """A request whose body is parsed strictly."""

    async def json(self) -> Any:
        """Return the body's value.

        Raises:
            json.JSONDecodeError: which FastAPI turns into a validation error.
        """
        try:
            return strict_json.loads(await self.body())
        except ValueError as error:
            raise json.JSONDecodeError(str(error), "", 0) from error


class StrictJsonRoute(APIRoute):
    """A route that hands strict requests to its endpoint."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler behind the strict request."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(StrictJsonRequest(request.scope, request.receive))

        return strict
