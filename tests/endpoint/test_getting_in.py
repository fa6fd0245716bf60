"""Trying to get in where one does not belong, and to break what is there."""

import json
import logging
import socket
from collections.abc import Iterator

import httpx
import pytest
from served import KEY, RECOMMENDATIONS, Served, body, serving, until

from recmeta.endpoint.answers.champion import RegistrySource
from recmeta.endpoint.operation.pages import FILES

CLOSED = ["/v1/model", "/v1/items?query=film", "/metrics", "/v1/nothing", "/nothing", "/docs"]
CLOSED += ["/v1/similar/i03", "/v1/events", "/v1/recommendations/batch"]


@pytest.fixture(scope="module")
def stranger(served: Served) -> Iterator[httpx.Client]:
    """A client without a key."""
    with httpx.Client(base_url=served.url) as client:
        yield client


@pytest.mark.parametrize("path", CLOSED)
def test_what_is_not_open_is_closed(stranger: httpx.Client, path: str) -> None:
    answer = stranger.get(path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Basic {KEY}", KEY, "Bearer \xff"],
)
def test_a_wrong_key_is_refused(stranger: httpx.Client, header: str) -> None:
    headers = {b"Authorization": header.encode("latin-1")}
    assert stranger.post(RECOMMENDATIONS, json={}, headers=headers).status_code == 401


def test_a_right_key_is_let_in(stranger: httpx.Client) -> None:
    for scheme in ("Bearer", "bearer"):
        headers = {"Authorization": f"{scheme} {KEY}"}
        assert stranger.post(RECOMMENDATIONS, json={}, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/openapi.json", *FILES])
def test_probes_and_pages_need_no_key(stranger: httpx.Client, path: str) -> None:
    answer = stranger.get(path)
    assert answer.status_code == 200
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/page/../../../etc/passwd",
        "/page/%2e%2e/%2e%2e/app.py",
        "/page/..%2f..%2fkeys.py",
        "//v1/model",
        "/livez/../v1/model",
        "/page/style.css/../../v1/model",
        "/V1/model",
        "/v1/model/",
        "/v1/model%00",
        "/v1/model;/livez",
    ],
)
def test_paths_lead_nowhere_else(served: Served, path: str) -> None:
    """Sent as they are: a client would tidy them up."""
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65_536), b""))
    assert answer.split(b" ")[1] in (b"400", b"401", b"404")
    assert b"root:" not in answer
    assert b"import" not in answer


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b"[" * 30_000, 400),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 400),
        (b'{"profile":{"age":NaN}}', 400),
        (b'{"profile":{"age":Infinity}}', 400),
        (b'{"profile":{"age":1e999}}', 422),
        (b'{"interactions":[{"item_id":"i03","value":-Infinity}]}', 400),
        (b'{"top_k":1' + b"0" * 4_000 + b"}", 422),
        (b'{"top_k":1' + b"0" * 6_000 + b"}", 400),
        (b'{"user_id":"\\ud800"}', 400),
        (b'{"user_id":"\xff\xfe"}', 400),
        (b"\x00\x01\x02", 400),
        (b"null", 422),
        (b"[]", 422),
        (b'"text"', 422),
        (b'{"__proto__":{},"constructor":1}', 422),
    ],
)
def test_strange_json_is_a_problem_of_the_sender(
    served: Served, content: bytes, status: int
) -> None:
    answer = served.client.post(
        RECOMMENDATIONS, content=content, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == status, answer.text
    assert answer.json()["status"] == status


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "multipart/form-data", ""])
def test_another_content_type_is_refused(served: Served, kind: str) -> None:
    answer = served.client.post(
        RECOMMENDATIONS, content=b"{}", headers={"Content-Type": kind} if kind else {}
    )
    assert answer.status_code == 415


def test_long_bodies_are_refused_before_they_are_read(served: Served) -> None:
    long = json.dumps(body(profile={"group": "x" * 100_000})).encode()
    headers = {"Content-Type": "application/json"}
    assert served.client.post(RECOMMENDATIONS, content=long, headers=headers).status_code == 413

    def endless() -> Iterator[bytes]:  # chunked: nobody says how long it is
        for _ in range(100):
            yield b" " * 10_000

    with httpx.Client(base_url=served.url, headers=dict(served.client.headers)) as client:
        answer = client.post(RECOMMENDATIONS, content=endless(), headers=headers)
        assert answer.status_code == 413
    assert served.ask(("i03", 4.0))["num_used"] == 1


def test_other_methods_are_refused(served: Served) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH", "TRACE"):
        answer = served.client.request(method, RECOMMENDATIONS)
        assert answer.status_code == 405, method
    assert served.client.head("/livez").status_code == 405


def test_a_request_keeps_an_id_that_is_harmless(served: Served) -> None:
    known = served.client.get("/livez", headers={"X-Request-ID": "abc-1.2_3"})
    assert known.headers["x-request-id"] == "abc-1.2_3"
    bad = served.client.get("/livez", headers={"X-Request-ID": '"}{"level":"x'})
    assert len(bad.headers["x-request-id"]) == 32


def test_the_log_has_a_line_per_request_and_nobody_in_it(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="recmeta.endpoint")
    asked = body(("i03", 4.0), user_id="somebody", profile={"group": "g1"})
    answer = served.client.post(RECOMMENDATIONS, json=asked)

    def lines() -> list[logging.LogRecord]:
        """Lines of this request alone: an earlier test's may be written late."""
        requests = [r for r in caplog.records if r.getMessage() == "request"]
        own = answer.headers["x-request-id"]
        return [r for r in requests if r.__dict__["fields"]["request_id"] == own]

    until(lambda: len(lines()) > 0)  # it is written after the answer is sent
    [line] = lines()
    fields = line.__dict__["fields"]
    assert fields["status"] == 200
    assert fields["route"] == RECOMMENDATIONS
    assert fields["key"] == "tests"
    assert fields["model_version"] == "1"
    assert fields["ms"] > 0
    for secret in ("somebody", "i03", "g1", KEY):
        assert secret not in json.dumps(fields)


def test_a_key_has_a_rate(source: RegistrySource) -> None:
    with serving(source, requests_per_second=5.0, burst=3) as limited:
        answers = [limited.client.get("/v1/model") for _ in range(12)]
        shed = [a for a in answers if a.status_code == 429]
        assert len(shed) >= 6
        assert all(int(a.headers["retry-after"]) >= 1 for a in shed)
        assert limited.client.get("/readyz").status_code == 200  # probes have no rate


def test_slow_bodies_are_given_up(source: RegistrySource) -> None:
    with serving(source, body_seconds=0.2) as served:
        host, port = served.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as raw:
            head = (
                f"POST {RECOMMENDATIONS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
                "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
            )
            raw.sendall(head.encode())
            assert b" 408 " in raw.recv(4_096)
