"""Bodies that a stranger wrote, by the hundred thousand: each is answered, none is our mistake."""

import asyncio
import json
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from counting import Faults

from benchmarks.speed.serve.models import model_of
from benchmarks.speed.serve.server import FixedSource
from recmeta.endpoint.answers.champion import ServedChampion
from recmeta.endpoint.app import create_app
from recmeta.endpoint.config import EndpointConfig
from recmeta.endpoint.events.histories import UserHistories
from recmeta.workspace import Workspace

PATHS = ("/v1/recommendations", "/v1/questions", "/v1/events")
AT_ONCE = 16
HONEST = b'{"interactions": [{"item_id": "1", "value": 5}], "top_k": 3}'
SEEDS = (
    HONEST,
    b'{"interactions": [{"item_id": "1", "value": 5, "timestamp": "2026-05-01T12:30:00Z"}, '
    b'{"item_id": "2", "value": 1.5}], "profile": {"gender": "F", "age": "25"}, '
    b'"user_id": "u", "max_reasons": 2}',
    b'{"interactions": [], "unknown": ["3", "4"], "count": 2}',
    b'{"user_id": "u", "candidates": ["1", "2"], "exclude": ["1"], "filters": {"genres": '
    b'["Drama"], "release_year": {"min": 1990, "max": 2000}}}',
    b'{"events": [{"event_id": "e1", "user_id": "u", "item_id": "1", "value": 5, '
    b'"timestamp": "2026-05-01T12:30:00Z"}]}',
    b"{}",
)
TOKENS = (
    *(b"NaN", b"-Infinity", b"1e999", b"-0", b"1" * 400, b"9" * 40, b"0.1e-400", b"true", b"null"),
    *(
        b"[]",
        b"{}",
        b"[" * 300,
        b'{"a":' * 200,
        b"//",
        b"\x00",
        "\ufeff".encode(),
        b'"interactions":',
    ),
    *(
        b'""',
        b'"\\u0000"',
        b'"\\ud83d"',
        b'"\xff"',
        b'"\\u202e"',
        "\u0661".encode(),
        b'"item_id":"1",',
    ),
    *(b'"value":5,', b'"top_k":99999999999999999999', b'"profile":', b'"__proto__":{}', b"[{}]"),
    *(b'"timestamp":"9999-12-31T23:59:59Z"', b'"timestamp":"0001-01-01T00:00:00+14:00"'),
)
FINE = {200, 400, 409, 413, 422}


def mutated(draw: random.Random) -> bytes:
    """Return a body that was well formed once."""
    data = bytearray(draw.choice(SEEDS))
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(6):
            case 0:
                data[at:at] = draw.choice(TOKENS)
            case 1:
                data[at : at + draw.randrange(12)] = draw.choice(TOKENS)
            case 2:
                data[at : at + 1] = bytes([draw.randrange(256)])
            case 3:
                del data[at : at + draw.randrange(1, 20)]
            case 4:
                part = data[at : at + draw.randrange(1, 40)]
                data[at:at] = part
            case _:
                value = _value(draw, 3)
                return json.dumps(value, ensure_ascii=draw.random() < 0.5).encode(
                    "utf-8", "surrogatepass"
                )
    return bytes(data)


def _value(draw: random.Random, depth: int) -> Any:
    """Return a value whose names are those of a request, and whose values may be anything."""
    names = ("interactions", "item_id", "value", "timestamp", "profile", "user_id", "top_k")
    kind = draw.randrange(8 if depth else 6)
    if kind == 6:
        return [_value(draw, depth - 1) for _ in range(draw.randrange(4))]
    if kind == 7:
        chosen = draw.sample((*names, "max_reasons", "unknown", "count", "age", "gender"), 4)
        return {name: _value(draw, depth - 1) for name in chosen}
    anything = (draw.uniform(-1e12, 1e12), draw.randrange(-9, 9), None, True, "1", 2**70)
    text = "".join(chr(draw.randrange(1, 0x10FFFF)) for _ in range(draw.randrange(5)))
    return draw.choice((*anything, text))


Ask = Callable[[str, bytes], Awaitable[tuple[int, bytes]]]


def _asking(app: Any) -> Ask:
    async def ask(path: str, body: bytes) -> tuple[int, bytes]:
        found: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            found.append(message)

        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
            "state": {},
        }
        await app(scope, receive, send)
        return found[0]["status"], found[1]["body"]

    return ask


def test_bodies_of_strangers_are_answered(
    faults: Faults, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    number = faults.number(sample=800, all_of_them=20_000)
    faults.inject("request bodies that were mutated", number)
    monkeypatch.setattr(logging.getLogger("recmeta.endpoint"), "disabled", True)
    logging.getLogger("recmeta.endpoint.requests").disabled = True
    champion = ServedChampion.of("1", model_of("bayesian-linear").model)
    config = EndpointConfig(requests_per_second=1e9, burst=10**9, max_wait_ms=1e6)
    histories = UserHistories(Workspace(tmp_path))
    source = FixedSource(champion)
    app = create_app(source, keys=None, config=config, first=champion, histories=histories)
    draw = random.Random(20_261_130)

    async def scenario() -> Counter[int]:
        counted: Counter[int] = Counter()
        async with app.router.lifespan_context(app):
            ask = _asking(app)
            expected = json.loads((await ask(PATHS[0], HONEST))[1])
            for start in range(0, number, AT_ONCE):
                bodies = [mutated(draw) for _ in range(min(AT_ONCE, number - start))]
                asked = [
                    (PATHS[2 if b'"events"' in body else n % 5 == 4], body)
                    for n, body in enumerate(bodies)
                ]
                began = time.monotonic()
                answers = await asyncio.gather(*(ask(*one) for one in asked))
                faults.check(time.monotonic() - began < 10, f"{asked} took too long")
                for one, (status, body) in zip(asked, answers, strict=True):
                    counted[status] += 1
                    faults.check(status in FINE, f"{one} got {status}: {body!r}")
                    json.loads(body)
            after = json.loads((await ask(PATHS[0], HONEST))[1])
            same = [
                (a["item_id"], pytest.approx(a["score"], abs=1e-5))
                == (b["item_id"], pytest.approx(b["score"], abs=1e-5))
                for a, b in zip(after["recommendations"], expected["recommendations"], strict=True)
            ]
            faults.check(all(same), "an honest client gets another answer afterwards")
        return counted

    try:
        counted = asyncio.run(scenario())
    finally:
        logging.getLogger("recmeta.endpoint.requests").disabled = False
    assert counted.total() == number
    assert all(counted[status] > number // 200 for status in (200, 400, 422)), counted
