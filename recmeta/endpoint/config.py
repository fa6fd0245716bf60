"""How much the endpoint accepts, and when it refuses."""

import dataclasses

MAX_INTERACTIONS = 200
"""The most interactions of one request: new users have few."""
MAX_TOP_K = 100
"""The length of the longest list."""
MAX_REASONS = 5
"""The most reasons for one item."""
MAX_ID_LENGTH = 256
"""The most characters of an id."""
MAX_USERS = 16
"""The most users of one request."""
MAX_NAMED = 1_000
"""The most items that a request may name as candidates, and that it may exclude."""
MAX_FILTERS = 20
"""The most attributes by which a request may filter."""
MAX_EVENTS = 100
"""The most events of one request."""
MAX_HISTORY = MAX_INTERACTIONS
"""The number of a known user's newest interactions that are read."""

MAY_BE_ZERO = ("batch_wait_ms", "pause_ms")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """Limits of the endpoint."""

    batch_users: int = 16
    """The most users that are adapted together."""
    batch_wait_ms: float = 10.0
    """How long a batch waits at most, in milliseconds, for requests that have arrived but are still
    checked. If there are none, as at low load, it does not wait."""
    queue_users: int = 64
    """The most requests that the server has in hand; further ones are refused with 503."""
    max_wait_ms: float = 60.0
    """The longest that the answer to a request may be expected to take, in milliseconds, as
    estimated from earlier answers; a request that would take longer is refused with 503 at once. As
    many requests as fit into a batch are always taken."""
    pause_ms: float = 50.0
    """How long a connection with such a refusal is not read, in milliseconds: clients that try
    again at once, whatever `Retry-After` says, would take the time that answers need."""
    requests_per_second: float = 1_000.0
    """The most requests per second of one API key, on average; further ones are refused with
    429."""
    burst: int = 200
    """The most requests that a key may send at once after a pause."""
    max_connections: int = 1_000
    """The most open connections in total. A new one replaces the one that has kept the server
    waiting longest, and is refused if none waits."""
    max_connections_per_client: int = 250
    """The same for one address (of IPv6, for the first 64 bits)."""
    proxies: tuple[str, ...] = ()
    """Addresses from which many clients come, such as a balancer's: `max_connections_per_client`
    does not hold for them. `X-Forwarded-For`, which anybody can write, is not read."""
    max_header_bytes: int = 16_384
    """The most bytes of the request line and headers together."""
    max_headers: int = 64
    """The most headers of a request."""
    max_url_bytes: int = 4_096
    """The most bytes of the request line."""
    header_seconds: float = 10.0
    """How long the request line and the headers may take to arrive, from their first byte or, on a
    new connection, from its opening."""
    idle_seconds: float = 75.0
    """How long a connection may wait for its next request."""
    max_body_bytes: int = 65_536
    """The most bytes of the request body."""
    body_seconds: float = 5.0
    """How long a body may take to arrive."""
    request_seconds: float = 30.0
    """How long a request may take from its first byte to the last byte of its answer."""
    online_seconds: float = 1.0
    """How long the online feature store may take; after that, answers do without it."""
    history_seconds: float = 60.0
    """How often the workspace's log is checked for rows that the histories of users lack."""
    owner_seconds: float = 20.0
    """How long it may take to read the state of the workspace for the owner's page."""
    poll_seconds: float = 5.0
    """How often the registry is asked for the champion."""
    trial_seconds: float = 300.0
    """How long a new champion may take to answer its first question, in a separate process to which
    requests take precedence."""
    shutdown_seconds: float = 30.0
    """The longest time from a signal to stop until the process ends, whatever may hang. Requests in
    flight may take four fifths of it."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "proxies":
                continue
            if not value >= 0 or (value == 0 and field.name not in MAY_BE_ZERO):
                raise ValueError(f"{field.name} is {value}; it must be positive.")
        for smaller, larger in (
            ("max_connections_per_client", "max_connections"),
            ("max_url_bytes", "max_header_bytes"),
            ("header_seconds", "request_seconds"),
            ("body_seconds", "request_seconds"),
        ):
            if getattr(self, smaller) > getattr(self, larger):
                raise ValueError(
                    f"{smaller} is {getattr(self, smaller)}; it must not be above {larger}, which "
                    f"is {getattr(self, larger)}."
                )
