"""The application: what is put together out of the other files."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from recmeta.endpoint import api, health
from recmeta.endpoint.batcher import Batcher
from recmeta.endpoint.champion import ChampionSource
from recmeta.endpoint.config import EndpointConfig
from recmeta.endpoint.gate import Gate
from recmeta.endpoint.holder import ChampionHolder
from recmeta.endpoint.journal import Journal
from recmeta.endpoint.keys import ApiKeys
from recmeta.endpoint.metrics import Metrics
from recmeta.endpoint.problems import add_handlers
from recmeta.endpoint.recommend import OnlineProfiles, Recommender
from recmeta.manifest import library_versions

OPENAPI = "/openapi.json"


def create_app(
    source: ChampionSource,
    *,
    keys: ApiKeys | None,
    config: EndpointConfig | None = None,
    online: OnlineProfiles | None = None,
) -> FastAPI:
    """Return the application. Nothing runs until the server starts it.

    Args:
        source: where champions come from.
        keys: who may ask; None: whoever is on this machine.
        config: limits.
        online: reads profiles from a feature store.
    """
    config = config or EndpointConfig()
    metrics = Metrics()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        holder = ChampionHolder(source, poll_seconds=config.poll_seconds, metrics=metrics)
        app.state.holder = holder
        app.state.batcher = Batcher(
            Recommender(online, metrics),
            most=config.batch_users,
            wait_seconds=config.batch_wait_ms / 1e3,
            queue_size=config.queue_users,
        )
        app.state.stopping = False
        holder.start()
        yield
        app.state.stopping = True
        await app.state.batcher.close()
        await asyncio.to_thread(holder.stop)

    app = FastAPI(
        title="recmeta",
        summary="Recommendations for users of whom little is known.",
        version=library_versions().get("recmeta", "0"),
        lifespan=lifespan,
        openapi_url=OPENAPI,
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.metrics = metrics
    app.include_router(api.router)
    app.include_router(health.router)
    add_handlers(app)
    app.add_middleware(
        Gate,
        keys=keys,
        open_paths=(OPENAPI, *health.OPEN_PATHS),
        is_full=lambda: app.state.batcher.is_full,
        config=config,
        metrics=metrics,
    )
    app.add_middleware(Journal, metrics=metrics)  # around the gate
    return app
