"""A client of the endpoint for a shop: the standard library alone, and nothing of the model.

    >>> from recmeta.client import Client, Event
    >>> shop = Client("http://127.0.0.1:8000", key="the-key-of-this-shop")
    >>> before = shop.recommend("visitor-7", top_k=5)
    >>> liked = before.items[0]
    >>> shop.send(Event(user_id="visitor-7", item_id=liked.item_id, value=5))
    Kept(accepted=1, duplicates=0)
    >>> after = shop.recommend("visitor-7", top_k=5)
    >>> after.num_known, liked.item_id in [item.item_id for item in after.items]
    (1, False)
    >>> shop.close()

The server runs as `recmeta serve --history`. A model of clicks needs no `value`.

A call is tried again where the server is busy (503, 429) or could not be reached, until it has
taken `timeout` seconds in all. That is safe for every call: an event has an id, under which it
counts once. A client may be shared by threads; each has a connection of its own.
"""

from recmeta.client.calls import Client
from recmeta.client.records import (
    EndpointError,
    EndpointUnavailable,
    Event,
    Interaction,
    Item,
    Kept,
    ListedItem,
    Ranking,
    Reason,
    User,
)

__all__ = [
    "Client",
    "EndpointError",
    "EndpointUnavailable",
    "Event",
    "Interaction",
    "Item",
    "Kept",
    "ListedItem",
    "Ranking",
    "Reason",
    "User",
]
