"""What a client says and hears, as records."""

import dataclasses
import datetime
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

Profile = Mapping[str, str | float | Sequence[str] | None]


class EndpointError(Exception):
    """The server refused a request."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{detail} (status {status})")
        self.status = status
        self.detail = detail


class EndpointUnavailable(EndpointError):
    """The server could not be reached, or was busy, until the time was up."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interaction:
    """Something that a user did with an item, known to the shop alone."""

    item_id: str
    value: float | None = None
    timestamp: datetime.datetime | None = None
    """With its zone."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """Something that a user did with an item, which the server is to keep."""

    user_id: str
    item_id: str
    event: str | None = None
    """Its kind. If None, it is `rating` with a value, otherwise `click`."""
    value: float | None = None
    timestamp: datetime.datetime | None = None
    """The time with its zone, or None for now."""
    event_id: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)
    """Names the event for good. Give one of your own where the event may come twice to you."""


@dataclasses.dataclass(frozen=True)
class Reason:
    """An interaction that speaks for an item, or against it."""

    because_item: str
    title: str | None
    effect: float


@dataclasses.dataclass(frozen=True)
class ListedItem:
    """One place of a list."""

    rank: int
    item_id: str
    title: str | None
    score: float
    relative_likelihood: float
    uncertainty: float | None
    listed_by: str
    propensity: float
    """How likely it was that the item would stand there: 1 where the server explores nothing."""
    reasons: tuple[Reason, ...]


@dataclasses.dataclass(frozen=True)
class Ranking:
    """A user's list."""

    model_version: str
    num_used: int
    """Interactions that the model adapted to."""
    num_known: int
    """Of the user, that the server knew."""
    items: tuple[ListedItem, ...]
    warnings: tuple[str, ...]
    """What of the request did not count, in sentences."""
    answer: Mapping[str, Any] = dataclasses.field(repr=False)
    """All that the server said."""


@dataclasses.dataclass(frozen=True)
class Item:
    """An item of the catalogue."""

    item_id: str
    title: str | None
    similarity: float | None = None
    """To the item that was asked about; None where none was."""


@dataclasses.dataclass(frozen=True)
class Kept:
    """What became of events; they are on the server's disk."""

    accepted: int
    duplicates: int
    """Events that had been sent before."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class User:
    """Whom a list is for, and what may be in it; the fields are those of POST /v1/recommendations.

    What is left out is unknown, or not wanted.
    """

    user_id: str | None = None
    interactions: Sequence[Interaction] = ()
    profile: Profile = dataclasses.field(default_factory=dict)
    top_k: int = 10
    max_reasons: int = 3
    candidates: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    filters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """By attribute a list of values, or `{"min": …, "max": …}`."""


class Wanted(TypedDict, total=False):
    """The fields of `User` beside the id, as arguments; `User` has their meaning and defaults."""

    interactions: Sequence[Interaction]
    profile: Profile
    top_k: int
    max_reasons: int
    candidates: Sequence[str] | None
    exclude: Sequence[str]
    filters: Mapping[str, Any]


def plain(one: Event | Interaction) -> dict[str, Any]:
    """Return the fields that are given, as JSON has them."""
    given = {name: value for name, value in vars(one).items() if value is not None}
    if one.timestamp is not None:
        given["timestamp"] = one.timestamp.isoformat()
    return given


def of_user(user: User) -> dict[str, Any]:
    """Return a user as JSON has it."""
    given = {
        name: value
        for name, value in vars(user).items()
        if value is not None and name != "interactions"
    }
    for name in ("candidates", "exclude"):
        if name in given:
            given[name] = list(given[name])
    return given | {"interactions": [plain(one) for one in user.interactions]}


def ranking(answer: Mapping[str, Any]) -> Ranking:
    """Return a list as the server has said it."""
    return Ranking(
        model_version=answer["model_version"],
        num_used=answer["num_used"],
        num_known=answer["num_known"],
        items=tuple(_listed(one) for one in answer["recommendations"]),
        warnings=tuple(warning["message"] for warning in answer["warnings"]),
        answer=answer,
    )


def _listed(one: Mapping[str, Any]) -> ListedItem:
    reasons = tuple(Reason(r["because_item"], r["title"], r["effect"]) for r in one["reasons"])
    fields = (f.name for f in dataclasses.fields(ListedItem) if f.name != "reasons")
    return ListedItem(**{name: one[name] for name in fields}, reasons=reasons)


def item(one: Mapping[str, Any]) -> Item:
    """Return an item as the server has said it."""
    return Item(one["item_id"], one["title"], one.get("similarity"))
