"""Calls of one server, tried again while there is time."""

import contextlib
import http.client
import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self, Unpack
from urllib.parse import quote, urlencode, urlsplit

from recmeta.client import records
from recmeta.client.records import (
    EndpointError,
    EndpointUnavailable,
    Event,
    Item,
    Kept,
    Ranking,
    User,
    Wanted,
)

JSON = "application/json"
BUSY = (429, 503)
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
"""Seconds between two attempts, where the server does not say how long; they double."""
_UNREACHABLE = (OSError, http.client.HTTPException)


class Client:
    """Asks one server."""

    def __init__(self, url: str, key: str | None = None, *, timeout: float = 5.0) -> None:
        """
        Args:
            url: `http://host:port` or `https://host`, with the path that a proxy adds, if any.
            key: an API key; None where the server asks for none.
            timeout: seconds that a call may take, attempts and pauses together.

        Raises:
            ValueError: for a URL that is neither http nor https.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url is {url!r}; it must be such as http://127.0.0.1:8000.")
        self._kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._host, self._port = parts.hostname, parts.port
        self._base = parts.path.rstrip("/")
        self._headers = {"Accept": JSON}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self._timeout = timeout
        self._own = threading.local()

    def recommend(self, user_id: str | None = None, **wanted: Unpack[Wanted]) -> Ranking:
        """Return a user's list.

        Args:
            user_id: the user whose history the server knows, or None for nobody.
            wanted: the other fields of `User`.

        Raises:
            EndpointUnavailable: where no answer came in time.
            EndpointError: where the request does not fit.
        """
        body = records.of_user(User(user_id=user_id, **wanted))
        return records.ranking(self._call("POST", "/v1/recommendations", body))

    def recommend_to(self, users: Sequence[User]) -> list[Ranking]:
        """Return the lists of several users, at most 16, in one request. Raises as `recommend`."""
        body = {"users": [records.of_user(user) for user in users]}
        found = self._call("POST", "/v1/recommendations/batch", body)
        return [records.ranking(one) for one in found["answers"]]

    def send(self, *events: Event) -> Kept:
        """Have events kept, at most 100: all of them are on the server's disk when this returns.

        Raises:
            EndpointUnavailable: where no answer came in time: send the same events again.
            EndpointError: where they do not fit, or the server keeps none; none was kept then.
        """
        body = {"events": [records.plain(event) for event in events]}
        found = self._call("POST", "/v1/events", body)
        return Kept(found["accepted"], found["duplicates"])

    def similar(self, item_id: str, limit: int = 10) -> list[Item]:
        """Return the items that are most like one. Raises as `recommend`."""
        place = f"/v1/similar/{quote(item_id, safe='')}?{urlencode({'limit': limit})}"
        return [records.item(one) for one in self._call("GET", place)["items"]]

    def search(self, words: str, limit: int = 10) -> list[Item]:
        """Return items whose title has every word. Raises as `recommend`."""
        query = urlencode({"query": words, "limit": limit})
        return [records.item(one) for one in self._call("GET", f"/v1/items?{query}")["items"]]

    def close(self) -> None:
        """Close this thread's connection; the next call opens another."""
        connection = getattr(self._own, "connection", None)
        if connection is not None:
            connection.close()
            self._own.connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        """Return the value of an answer, trying again while there is time."""
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        end, pauses = time.monotonic() + self._timeout, _pauses()
        while True:
            try:
                status, headers, said = self._attempt(method, path, content, end)
                if status == 200:
                    return _value(said)
                refused = _error(status, said)
                if status not in BUSY:
                    raise refused
                pause = _seconds(headers.get("Retry-After"), next(pauses))
            except _UNREACHABLE as error:
                self.close()  # what is half read is of no use
                refused = EndpointUnavailable(0, f"the server could not be reached: {error}")
                pause = next(pauses)
            if time.monotonic() + pause >= end:
                raise EndpointUnavailable(refused.status, refused.detail)
            time.sleep(pause)

    def _attempt(
        self, method: str, path: str, content: bytes | None, end: float
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        left = max(0.001, end - time.monotonic())
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._kind(self._host, self._port, timeout=left)
            self._own.connection = connection
        connection.timeout = left  # of opening it anew, where the server has closed it
        if connection.sock is not None:
            connection.sock.settimeout(left)
        headers = self._headers if content is None else {**self._headers, "Content-Type": JSON}
        connection.request(method, self._base + path, content, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def _pauses() -> Iterator[float]:
    """Yield growing pauses, drawn so that clients that were refused together come apart."""
    pause = FIRST_PAUSE
    while True:
        yield random.uniform(pause / 2, pause)  # nosec B311  # no secret
        pause = min(2 * pause, LONGEST_PAUSE)


def _seconds(header: str | None, otherwise: float) -> float:
    """Return how long to wait by the header `Retry-After`, which has whole seconds or a date."""
    if header is None or not header.isdecimal():
        return otherwise
    return int(header) + otherwise


def _value(said: bytes) -> Any:
    try:
        return json.loads(said)
    except ValueError as error:
        raise EndpointError(
            200, f"the answer is not JSON ({error}): is it the server's?"
        ) from error


def _error(status: int, said: bytes) -> EndpointError:
    """Return what an answer says is wrong."""
    detail = said.decode(errors="replace")[:500]
    with contextlib.suppress(ValueError, KeyError, TypeError):  # a proxy's page, perhaps
        detail = str(json.loads(said)["detail"])
    return EndpointError(status, detail)
