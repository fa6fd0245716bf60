"""Requests and answers of events."""

from typing import Annotated

from pydantic import BaseModel, Field

from recmeta.endpoint.answers.models import Body, Finite, Id, Instant, Warning_
from recmeta.endpoint.config import MAX_EVENTS


class Event(Body):
    """Something that a user did with an item."""

    event_id: Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9._:-]{1,128}$")] = Field(
        description="Identifies the event for good, such as a UUID. An event that is sent again "
        "counts once, so send it again whenever there was no answer."
    )
    user_id: Id
    item_id: Id = Field(description="An item that the catalogue does not have yet is kept, too.")
    event: Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None = Field(
        default=None,
        description="Its kind, as in the log. If absent, `rating` with a value, otherwise `click`.",
    )
    value: Finite | None = Field(
        default=None, description="The rating, the count or the amount. If absent, 1."
    )
    timestamp: Instant | None = Field(
        default=None, description="The time, at most a day ahead. If absent, the current time."
    )


class EventsRequest(Body):
    """Events of any users; all of them are kept, or none."""

    events: list[Event] = Field(min_length=1, max_length=MAX_EVENTS)


class EventsAnswer(BaseModel):
    """What became of the events, which are kept for good."""

    accepted: int = Field(description="Events that were new.")
    duplicates: int = Field(description="Events that had been sent before.")
    warnings: list[Warning_] = []
