"""A closed-loop load generator: clients that send the next request as soon as they have an answer
or a refusal, whatever `Retry-After` says. This is how many badly behaved clients overload a server;
for latencies at a given rate, see `load`.
"""

import asyncio
import dataclasses
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.speed.serve.load import Connection, request

CHECKED = 20
"""One in this many answers is compared with the expected one."""
ROUNDING = 1e-5
"""The tolerance of scores: the last bit depends on the other users in the batch."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answered:
    """The answers."""

    seconds: float
    statuses: dict[int, int]
    """The number of answers by status."""
    p50_ms: float
    p99_ms: float
    """The latency of answers with status 200, from sending a request to the last byte of its
    answer."""
    shed_p50_ms: float | None
    """The latency of the other answers."""
    checked: int
    """The number of answers that were compared."""
    wrong: int
    """The number of these that differed from the expected answer."""


async def ask(
    port: int,
    bodies: Sequence[bytes],
    expected: Sequence[dict[str, Any]],
    *,
    clients: int,
    seconds: float,
) -> Answered:
    """Let clients ask a server of this machine.

    Args:
        bodies: taken in turn.
        expected: the answer to each.
    """
    loop = asyncio.get_running_loop()
    requests = [request(port, body) for body in bodies]
    statuses: Counter[int] = Counter()
    answered: list[float] = []
    shed: list[float] = []
    checks: Counter[bool] = Counter()
    start = time.perf_counter()

    async def one(number: int) -> None:
        _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
        assert connection.transport is not None
        while time.perf_counter() - start < seconds:
            number = (number + clients) % len(requests)
            connection.answer = loop.create_future()
            sent = time.perf_counter()
            connection.transport.write(requests[number])
            status, body = await connection.answer
            statuses[status] += 1
            (answered if status == 200 else shed).append(time.perf_counter() - sent)
            if status == 200 and statuses[200] % CHECKED == 0:
                checks[is_same(json.loads(body), expected[number])] += 1
        connection.transport.close()

    await asyncio.gather(*(one(number) for number in range(clients)))
    p50, p99 = np.percentile(answered, [50, 99]) * 1e3
    return Answered(
        seconds=time.perf_counter() - start,
        statuses=dict(statuses),
        p50_ms=float(p50),
        p99_ms=float(p99),
        shed_p50_ms=float(np.median(shed)) * 1e3 if shed else None,
        checked=checks.total(),
        wrong=checks[False],
    )


def is_same(answer: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Return whether two answers recommend the same items with the same scores and reasons."""
    found, wanted = (
        {one["item_id"]: one for one in each["recommendations"]} for each in (answer, expected)
    )
    return found.keys() == wanted.keys() and all(
        abs(found[item]["score"] - wanted[item]["score"]) < ROUNDING
        and {r["because_item"] for r in found[item]["reasons"]}
        == {r["because_item"] for r in wanted[item]["reasons"]}
        for item in found
    )


def _main() -> None:
    """Read the settings from standard input, as JSON, and write the results."""
    asked: dict[str, Any] = json.load(sys.stdin)
    bodies = [json.dumps(body).encode() for body in asked.pop("bodies")]
    found = asyncio.run(ask(bodies=bodies, **asked))
    sys.stdout.write(json.dumps(dataclasses.asdict(found)) + "\n")


if __name__ == "__main__":
    _main()
