"""A real server on a free port, in a thread, and how to call it."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
from fastapi import FastAPI

from recmeta.endpoint.answers.champion import ChampionSource
from recmeta.endpoint.answers.recommend import OnlineProfiles
from recmeta.endpoint.app import create_app
from recmeta.endpoint.config import EndpointConfig
from recmeta.endpoint.events.histories import UserHistories
from recmeta.endpoint.guard.keys import ApiKeys
from recmeta.endpoint.server import Server, bound
from recmeta.workspace import Workspace

KEY = "a-key-for-the-tests"
RECOMMENDATIONS = "/v1/recommendations"


@dataclasses.dataclass(frozen=True)
class Served:
    """A server, and a client with a valid key."""

    app: FastAPI
    url: str
    client: httpx.Client

    def ask(self, *rows: tuple[str, float], **more: Any) -> dict[str, Any]:
        """Return the answer for a user with these items and values."""
        answer = self.client.post(RECOMMENDATIONS, json=body(*rows, **more))
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


def body(*rows: tuple[str, float], **more: Any) -> dict[str, Any]:
    """Return a request's body."""
    return {"interactions": [{"item_id": i, "value": v} for i, v in rows], **more}


@contextlib.contextmanager
def serving(
    source: ChampionSource,
    *,
    workspace: Workspace | None = None,
    online: OnlineProfiles | None = None,
    histories: UserHistories | None = None,
    keys: ApiKeys | None = None,
    **limits: Any,
) -> Iterator[Served]:
    """Serve champions until the block ends."""
    config = EndpointConfig(**{"poll_seconds": 0.05, **limits})
    newest = source.newest()
    first = None if newest is None else source.load(newest)  # untried, which is faster
    keys = keys or ApiKeys({"tests": KEY})
    app = create_app(
        source,
        keys=keys,
        config=config,
        workspace=workspace,
        online=online,
        first=first,
        histories=histories,
    )
    listening = bound("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    server = Server(app, config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}) as client:
            until(lambda: _is_ready(client))
            yield Served(app, url, client)
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive(), "the server does not stop"


def until(done: Any, seconds: float = 30.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.ConnectError:
        return False
