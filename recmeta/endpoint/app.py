"""The application, composed of the parts in the other files."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence

from fastapi import FastAPI

from recmeta.endpoint import api
from recmeta.endpoint.answers.batcher import Batcher
from recmeta.endpoint.answers.champion import ChampionSource, ServedChampion
from recmeta.endpoint.answers.holder import ChampionHolder
from recmeta.endpoint.answers.models import QuestionsAnswer, RecommendationAnswer
from recmeta.endpoint.answers.questions import Inquiry
from recmeta.endpoint.answers.questions import answer as answer_inquiry
from recmeta.endpoint.answers.recommend import Ask, BatchRecommender, OnlineProfiles
from recmeta.endpoint.config import EndpointConfig
from recmeta.endpoint.events import routes
from recmeta.endpoint.events.histories import UserHistories
from recmeta.endpoint.guard.connections import Connections
from recmeta.endpoint.guard.gate import Gate
from recmeta.endpoint.guard.keys import ApiKeys
from recmeta.endpoint.guard.problems import add_handlers
from recmeta.endpoint.guard.rate import RateLimit
from recmeta.endpoint.operation import health, owner, pages, reference
from recmeta.endpoint.operation.journal import Journal
from recmeta.endpoint.operation.metrics import Metrics
from recmeta.records.provenance import library_versions
from recmeta.workspace import Workspace

log = logging.getLogger(__name__)
OPENAPI = "/openapi.json"
CLOSING_SECONDS = 1.0
"""Longest wait for each thread at the end."""


def create_app(
    source: ChampionSource,
    *,
    keys: ApiKeys | None,
    config: EndpointConfig | None = None,
    online: OnlineProfiles | None = None,
    workspace: Workspace | None = None,
    first: ServedChampion | None = None,
    histories: UserHistories | None = None,
) -> FastAPI:
    """Return the application. Nothing runs until the server starts it.

    Args:
        source: where champions come from.
        keys: of the callers; if None, anybody on this machine may ask.
        config: limits.
        online: reads profiles from a feature store.
        workspace: shown on the owner's page; if None, the page has nothing to show.
        first: the champion to begin with; if None, it is loaded from the source while requests
            arrive.
        histories: of users, and where events are kept; if None, there are none and no events are
            kept.
    """
    config = config or EndpointConfig()
    metrics = Metrics()
    app = FastAPI(
        title="recmeta",
        summary="Recommendations for users with few known interactions.",
        version=library_versions().get("recmeta", "0"),
        lifespan=_lifespan(source, online, config, metrics, first, histories),
        openapi_url=OPENAPI,
        docs_url=None,  # these pages load scripts from elsewhere; see `operation.reference`
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.metrics = metrics
    app.state.connections = Connections(config, metrics, keys)
    app.state.rate = RateLimit(config.requests_per_second, config.burst)
    app.include_router(api.router)
    app.include_router(routes.router)
    app.include_router(health.router)
    app.include_router(pages.router())
    app.include_router(reference.router)
    if workspace is not None:
        app.state.owner = owner.OwnerView(workspace, config.owner_seconds, metrics, keys)
        app.include_router(owner.router)
    add_handlers(app)
    app.add_middleware(
        Gate,
        keys=keys,
        open_paths=(OPENAPI, *health.OPEN_PATHS, *pages.FILES),
        rate=app.state.rate,
        metrics=metrics,
    )
    app.add_middleware(Journal, metrics=metrics)  # around the gate
    return app


def _lifespan(
    source: ChampionSource,
    online: OnlineProfiles | None,
    config: EndpointConfig,
    metrics: Metrics,
    first: ServedChampion | None,
    histories: UserHistories | None,
) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]:
    """Return the context in which the server runs: it watches for a new champion, and gathers
    requests into batches."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        holder = ChampionHolder(
            source,
            poll_seconds=config.poll_seconds,
            trial_seconds=config.trial_seconds,
            metrics=metrics,
            first=first,
        )
        app.state.holder = holder
        known = None if histories is None else histories.of
        app.state.batcher = Batcher(
            _answering(BatchRecommender(online, metrics, config.online_seconds, known)),
            most=config.batch_users,
            wait_seconds=config.batch_wait_ms / 1e3,
            num_in_hand=lambda: app.state.connections.admission.num_in_hand,
        )
        app.state.events = None
        if histories is not None:
            app.state.events = routes.writer_of(histories.writer)
            histories.start(config.history_seconds)
        app.state.stopping = False
        holder.start()
        yield
        app.state.stopping = True
        # Requests in flight have ended by now, or were given up: nothing is worth a longer wait.
        closing = min(CLOSING_SECONDS, config.shutdown_seconds / 20)
        if not await app.state.batcher.close(closing):
            log.warning("a batch is still computed; its thread is left behind")
        if histories is not None:
            histories.stop()
            if not await app.state.events.close(closing):
                log.warning("events are still written; their thread is left behind")
        if not await asyncio.to_thread(holder.stop, closing):
            log.warning("a champion is still looked for or loaded; its thread is left behind")

    return lifespan


def _answering(
    recommender: BatchRecommender,
) -> Callable[[Sequence[Ask | Inquiry]], list[RecommendationAnswer | QuestionsAnswer]]:
    """Return the function that works on a batch: all computation is in the batcher's one thread."""

    def work(things: Sequence[Ask | Inquiry]) -> list[RecommendationAnswer | QuestionsAnswer]:
        asks = [thing for thing in things if isinstance(thing, Ask)]
        lists = iter(recommender(asks) if asks else ())
        return [next(lists) if isinstance(t, Ask) else answer_inquiry(t) for t in things]

    return work
