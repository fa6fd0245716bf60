"""The pages: a fixed set of files, read once, so that no path leads anywhere else."""

import importlib.resources
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request, Response

FILES = {
    "/": ("index.html", "text/html"),
    "/owner": ("owner.html", "text/html"),
    "/page/style.css": ("style.css", "text/css"),
    "/page/api.js": ("api.js", "text/javascript"),
    "/page/chart.js": ("chart.js", "text/javascript"),
    "/page/curve.js": ("curve.js", "text/javascript"),
    "/page/dom.js": ("dom.js", "text/javascript"),
    "/page/try.js": ("try.js", "text/javascript"),
    "/page/owner.js": ("owner.js", "text/javascript"),
    "/favicon.ico": ("icon.svg", "image/svg+xml"),
}
"""File and media type by path."""


def router() -> APIRouter:
    """Return the routes of the pages. They hold no data, and so need no key."""
    made = APIRouter()
    for path, (name, media_type) in FILES.items():
        made.add_route(path, _page(_content(name), media_type), methods=["GET"])
    return made


def _page(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def page(request: Request) -> Response:
        headers = {"Cache-Control": "no-cache"}
        return Response(content, media_type=media_type, headers=headers)

    return page


def _content(name: str) -> bytes:
    return importlib.resources.files("recmeta.endpoint").joinpath("page", name).read_bytes()
