"""POST /v1/events: the events are on the disk, or in the object store, when the answer is sent."""

import datetime
import logging
import sqlite3
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, HTTPException, Request

from recmeta.endpoint.answers.batcher import Batcher
from recmeta.endpoint.answers.champion import ServedChampion
from recmeta.endpoint.answers.models import Problem, Warning_
from recmeta.endpoint.api import BODY_REFUSALS, KEY, REFUSALS
from recmeta.endpoint.events.models import Event, EventsAnswer, EventsRequest
from recmeta.endpoint.guard.problems import retry_after
from recmeta.endpoint.guard.strict_json import StrictJsonRoute
from recmeta.errors import FieldError
from recmeta.logs.events.store import Appended, EventStore, StoredEvent, microseconds
from recmeta.schema import RATING_EVENT

log = logging.getLogger(__name__)
MOST_AHEAD = datetime.timedelta(days=1)
"""How far ahead a time may be; ingest would treat a later one as in the future."""
MOST_SENDERS = 64
"""The most requests whose events are written in one commit."""
CLICK = "click"
_PROBLEM = {"model": Problem, "content": {"application/problem+json": {}}}
EVENT_REFUSALS: dict[int | str, dict[str, Any]] = {
    403: {"description": "This server keeps no events.", **_PROBLEM},
    409: {"description": "An `event_id` belongs to another event; none was kept.", **_PROBLEM},
}
Writer = Batcher[Sequence[StoredEvent], Appended]


def writer_of(store: EventStore) -> Writer:
    """Return the writer of events. It writes the events of requests that arrive together in one
    commit, in a thread of its own, and belongs to the running event loop."""
    return Batcher(store.append, most=MOST_SENDERS, wait_seconds=0.0, num_in_hand=lambda: 0)


router = APIRouter(
    prefix="/v1", dependencies=[KEY], route_class=StrictJsonRoute, responses=REFUSALS
)


@router.post(
    "/events",
    responses={**BODY_REFUSALS, **EVENT_REFUSALS},
    summary="Keep what users did",
)
async def events(request: Request, body: EventsRequest) -> EventsAnswer:
    """Keep events for good. The next request with such a `user_id` counts them, and the next
    `recmeta ingest` adds them to the log, each once."""
    writer: Writer | None = request.app.state.events
    if writer is None:
        raise HTTPException(403, "this server keeps no events: start it with --history.")
    champion: ServedChampion | None = request.app.state.holder.current
    now = datetime.datetime.now(datetime.UTC)
    stored = [_checked(place, one, champion, now) for place, one in enumerate(body.events)]
    try:
        found = await writer.submit(stored)
    except (sqlite3.Error, OSError):
        request.app.state.metrics.events.labels("failed").inc(len(stored))
        log.exception("events could not be written")
        detail = "events cannot be kept now: send them again."
        raise HTTPException(503, detail, retry_after(1)) from None
    if found.conflict is not None:
        detail = f"events[{found.conflict}].event_id: belongs to another event; none was kept."
        raise HTTPException(409, detail)
    metric = request.app.state.metrics.events
    metric.labels("accepted").inc(found.accepted)
    metric.labels("duplicate").inc(found.duplicates)
    return EventsAnswer(
        accepted=found.accepted,
        duplicates=found.duplicates,
        warnings=_unknown_items(stored, champion),
    )


def _checked(
    place: int, one: Event, champion: ServedChampion | None, now: datetime.datetime
) -> StoredEvent:
    """Return an event as it is kept.

    Raises:
        FieldError: for a rating without a value, or one that the champion's range does not have,
            and for a time before 1970 or of the future.
    """
    event = one.event or (CLICK if one.value is None else RATING_EVENT)
    if event == RATING_EVENT:
        _check_rating(f"events[{place}].value", one.value, champion)
    time = None if one.timestamp is None else microseconds(one.timestamp)
    if time is not None and not 0 <= time <= microseconds(now + MOST_AHEAD):
        detail = "it must be after 1970 and at most a day ahead of now."
        raise FieldError(f"events[{place}].timestamp", detail)
    return StoredEvent(
        event_id=one.event_id,
        user_id=one.user_id.strip(),
        item_id=one.item_id.strip(),
        event=event,
        value=1.0 if one.value is None else one.value,
        timestamp=time,
    )


def _check_rating(field: str, value: float | None, champion: ServedChampion | None) -> None:
    if value is None:
        raise FieldError(field, "is missing; a rating needs one.")
    if champion is not None and champion.model.objective == "rating":
        low, high = champion.model.value_range
        if not low <= value <= high:
            raise FieldError(field, f"is {value:g}; it must be between {low:g} and {high:g}.")


def _unknown_items(
    stored: Sequence[StoredEvent], champion: ServedChampion | None
) -> list[Warning_]:
    if champion is None:
        return []
    detail = "the catalogue has no such item yet; the event is kept for the log."
    return [
        Warning_(code="unknown_item", field=f"events[{place}].item_id", message=detail)
        for place, one in enumerate(stored)
        if one.item_id not in champion.intake.number_of
    ]
