"""An open-loop load generator: requests leave when they are due, whether or not others came back.

A closed loop, which waits for an answer before it asks again, asks least when the server is
slowest, and so leaves out the latencies that count ("coordinated omission", Gil Tene). Here times
of departure are drawn beforehand, as of a Poisson process, and a latency runs from the time that a
request was due, not from when it was sent.
"""

import asyncio
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

CONNECTIONS = 128
PATIENCE_SECONDS = 30.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Load:
    """The answers."""

    seconds: float
    """The time from the first departure to the last answer."""
    latency_ms: Sequence[float]
    """The latencies of answers with status 200."""
    statuses: dict[int, int]
    """The number of answers by status."""
    p99_late_ms: float
    """How late requests were sent after they were due: the generator's own share of latencies."""


class Connection(asyncio.Protocol):
    """A persistent connection with at most one request in progress."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Complete the answer once all of it has arrived."""
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        _, _, rest = head.lower().partition(b"content-length: ")
        if len(body) >= int(rest.partition(b"\r\n")[0]):
            self.buffer = b""
            assert self.answer is not None
            self.answer.set_result((int(head[9:12]), body))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request in progress."""
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(exc or ConnectionResetError("the server hung up"))


async def drive(
    port: int, bodies: Sequence[bytes], *, rate: float, seconds: float, seed: int = 0
) -> Load:
    """Send requests to a server of this machine.

    Args:
        bodies: taken in turn.
        rate: requests a second, on average.
        seconds: for how long requests leave.
    """
    loop = asyncio.get_running_loop()
    free: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
    for _ in range(CONNECTIONS):
        _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
        free.put_nowait(connection)
    requests = [request(port, body) for body in bodies]
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1 / rate, int(rate * seconds * 1.5) + 10)
    due = np.cumsum(gaps)
    due = due[due < seconds].tolist()
    found: list[tuple[int, float]] = []
    late: list[float] = []
    start = time.perf_counter() + 0.1

    async def one(number: int, at: float) -> None:
        connection = await free.get()
        if connection.transport is None or connection.transport.is_closing():
            # The server closes connections that have been idle for a long time.
            _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
        assert connection.transport is not None
        connection.answer = loop.create_future()
        late.append(time.perf_counter() - start - at)
        connection.transport.write(requests[number % len(requests)])
        status, _ = await connection.answer
        found.append((status, time.perf_counter() - start - at))
        free.put_nowait(connection)

    tasks = []
    for number, at in enumerate(due):
        wait = start + at - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(loop.create_task(one(number, at)))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*tasks)
    elapsed = time.perf_counter() - start
    while not free.empty():
        transport = free.get_nowait().transport
        assert transport is not None
        transport.close()
    statuses, counts = np.unique([status for status, _ in found], return_counts=True)
    return Load(
        seconds=elapsed,
        latency_ms=[latency * 1e3 for status, latency in found if status == 200],
        statuses=dict(zip(statuses.tolist(), counts.tolist(), strict=True)),
        p99_late_ms=float(np.percentile(late, 99)) * 1e3,
    )


def request(port: int, body: bytes) -> bytes:
    """Return a request for recommendations."""
    head = (
        f"POST /v1/recommendations HTTP/1.1\r\nHost: localhost:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _main() -> None:
    """Read the settings from standard input, as JSON, and write the results."""
    asked: dict[str, Any] = json.load(sys.stdin)
    bodies = [json.dumps(body).encode() for body in asked.pop("bodies")]
    found = asyncio.run(drive(bodies=bodies, **asked))
    sys.stdout.write(json.dumps(dataclasses.asdict(found)) + "\n")


if __name__ == "__main__":
    _main()
