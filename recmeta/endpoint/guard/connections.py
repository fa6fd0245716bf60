"""How many connections there may be, in total and of one client, and how long each may wait.

A connection *waits* while the server has nothing to do for it: it is new or idle, or its request is
still arriving. If there is no room, a new connection replaces the one that has waited longest, so
that a probe gets in however many slow clients there are. X-Forwarded-For is not read, since anybody
can write it.
"""

import asyncio
import ipaddress
from collections import OrderedDict
from typing import Protocol

from recmeta.endpoint.config import EndpointConfig
from recmeta.endpoint.guard.admission import Admission
from recmeta.endpoint.guard.keys import ApiKeys, presented
from recmeta.endpoint.operation.metrics import Metrics

SWEEP_SECONDS = 0.2
"""Seconds between checks of deadlines."""
READ_BYTES = 16_384
"""Bytes that are read at once, and so the most that is kept of pipelined requests."""


class Kept(Protocol):
    """An open connection."""

    client: str | None
    """The client; None if clients are not distinguished."""
    deadline: float
    """Its deadline, on the loop's clock."""

    def expire(self) -> None:
        """Handle a deadline that has passed."""
        ...

    def give_way(self) -> None:
        """Close at once."""
        ...


class _Order(OrderedDict[Kept, None]):
    """Waiting connections, the longest first, and the number of all connections."""

    size = 0


class Connections:
    """All open connections of a server. Belongs to one event loop."""

    def __init__(self, config: EndpointConfig, metrics: Metrics, keys: ApiKeys | None) -> None:
        """
        Args:
            keys: of the callers; if None, everybody may ask.
        """
        self.keys = keys
        self.config = config
        self.admission = Admission(
            fewest=config.batch_users,
            most=config.queue_users,
            longest_seconds=config.max_wait_ms / 1e3,
        )
        self.metrics = metrics
        self.buffer = memoryview(bytearray(READ_BYTES))
        """The buffer of one read of any connection, which is emptied before the next read."""
        self._proxies = frozenset(client_of(address) for address in config.proxies)
        self._all: set[Kept] = set()
        self._waiting = _Order()
        self._clients: dict[str, _Order] = {}
        self._is_sweeping = False

    def __len__(self) -> int:
        return len(self._all)

    def client(self, address: str | None) -> str | None:
        """Return whose connections are counted together; None for a proxy's."""
        client = client_of(address or "")
        return None if client in self._proxies else client

    def admit(self, connection: Kept) -> bool:
        """Accept a new connection, which then waits. If there is no room, it replaces another one.
        Return whether that was possible."""
        config = self.config
        own = None
        if connection.client is not None:
            own = self._clients.setdefault(connection.client, _Order())
            if own.size >= config.max_connections_per_client and not self._make_room(own):
                return False
        if len(self._all) >= config.max_connections and not self._make_room(self._waiting):
            if own is not None and not own.size:
                del self._clients[connection.client or ""]
            return False
        if own is not None:
            # Room may have been made by letting go of this client's last one.
            own = self._clients.setdefault(connection.client or "", own)
            own.size += 1
            own[connection] = None
        self._all.add(connection)
        self._waiting[connection] = None
        if not self._is_sweeping:
            self._is_sweeping = True
            asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
        return True

    def leave(self, connection: Kept) -> None:
        """Forget a connection; again does no harm."""
        if connection not in self._all:
            return
        self._all.remove(connection)
        self._waiting.pop(connection, None)
        if connection.client is not None:
            own = self._clients[connection.client]
            own.pop(connection, None)
            own.size -= 1
            if not own.size:
                del self._clients[connection.client]

    def waits(self, connection: Kept) -> None:
        """Note that from now on the server has nothing to do for a connection."""
        if connection in self._all:
            for order in self._orders(connection):
                order[connection] = None
                order.move_to_end(connection)

    def works(self, connection: Kept) -> None:
        """Note that the server has a complete request of a connection, which cannot be replaced
        now."""
        for order in self._orders(connection):
            order.pop(connection, None)

    def may_ask(self, authorization: bytes | None) -> bool:
        """Return whether a request with such a header may take a place from others. One that may
        not is not counted, and the application answers why."""
        if self.keys is None:
            return True
        return self.keys.name_of(presented((authorization or b"").decode("latin-1"))) is not None

    def refused(self, reason: str) -> None:
        """Count something that was refused without asking the application."""
        self.metrics.refused_early.labels(reason).inc()

    def _orders(self, connection: Kept) -> list[_Order]:
        own = self._clients.get(connection.client or "")
        return [self._waiting] if own is None else [self._waiting, own]

    def _make_room(self, order: _Order) -> bool:
        longest = next(iter(order), None)
        if longest is None:
            return False
        self.leave(longest)
        longest.give_way()
        self.refused("gave_way")
        return True

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in [one for one in self._all if one.deadline < now]:
            connection.expire()
        self._is_sweeping = bool(self._all)
        if self._is_sweeping:
            loop.call_later(SWEEP_SECONDS, self._sweep)


def client_of(address: str) -> str:
    """Return what counts as one client: an address or, for IPv6, its first 64 bits, since one
    subscriber has all addresses with these bits."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
