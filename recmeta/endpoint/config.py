"""How much the endpoint takes on, and when it says no."""

import dataclasses

MAX_INTERACTIONS = 200
"""Interactions of one request: new users have few."""
MAX_TOP_K = 100
"""Longest list."""
MAX_REASONS = 5
"""Most reasons for one item."""
MAX_ID_LENGTH = 256
"""Characters of an id."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """Limits of the endpoint."""

    batch_users: int = 16
    """Most users that are adapted together."""
    batch_wait_ms: float = 0.0
    """How long the first of a batch waits for others, in milliseconds. Requests that arrive while a
    batch is computed make up the next one anyway."""
    queue_users: int = 64
    """Users that may wait; who comes then is sent away with 503."""
    requests_per_second: float = 1_000.0
    """Of one API key, on average; who sends more is sent away with 429."""
    burst: int = 200
    """Requests that a key may send at once after a pause."""
    max_body_bytes: int = 65_536
    """Longest request body."""
    body_seconds: float = 5.0
    """How long a body may take to arrive."""
    poll_seconds: float = 5.0
    """How often the registry is asked for the champion."""
    trial_seconds: float = 300.0
    """How long a new champion may take to answer its first question, in a process of its own that
    the requests go before."""
    shutdown_seconds: float = 30.0
    """How long requests in flight may take to finish after a signal to stop."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value < 0 or (value == 0 and field.name != "batch_wait_ms"):
                raise ValueError(f"{field.name} is {value}; it must be positive.")
