"""Clients that send too much, too slowly, too often, or what is no request at all.

Whatever they do, `/livez` answers within a second to a new connection, memory stays where it was,
and an honest client gets the right answer afterwards.
"""

import contextlib
import random
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from counting import Faults
from hostile import (
    HEADERS,
    IS_LINUX,
    Probe,
    Victim,
    allow_many_files,
    everything,
    post,
    request,
    send_all,
    statuses,
    victim,
)

SLOW = 1.0
"""Seconds that the server gives for headers, and for a body."""
MEGABYTES = 60.0
"""What the server's memory may grow by during an attack."""
HONEST = {"interactions": [{"item_id": "1", "value": 5}], "max_reasons": 3}
Attack = Callable[[Victim, Faults], None]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """One server for all attacks."""
    allow_many_files()
    folder = tmp_path_factory.mktemp("hostile")
    limits = {"header_seconds": SLOW, "body_seconds": SLOW, "request_seconds": 4.0}
    with victim(
        folder, **limits, idle_seconds=3.0, requests_per_second=1e5, burst=100_000
    ) as found:
        found.expected = found.ask(HONEST)
        yield found


def huge_header(server: Victim, faults: Faults) -> None:
    """400 MB in one header."""
    faults.inject("one header of 400 MB", 1)
    sent, part = 0, b"x" * 1_000_000
    with server.connect() as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX: ")
        while sent < 400 and send_all(connection, part):
            sent += 1
        answer = everything(connection)
    faults.check(sent < 100, f"{sent} MB of a header were taken")
    faults.check(statuses(answer) in ([431], []), f"a huge header got {answer[:80]!r}")


def endless_headers(server: Victim, faults: Faults) -> None:
    """One header after the other."""
    number = faults.number(5, 200)
    faults.inject("headers without end", number)
    line = b"X-Header: abcdefghijklmnop\r\n" * 100
    for _ in range(number):
        with server.connect() as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
            taken = 0
            while taken < 10_000 and send_all(connection, line):
                taken += 1
            faults.check(taken < 10_000, "headers without end were taken")
            found = statuses(everything(connection))
            faults.check(found in ([431], []), f"headers without end got {found}")


def many_headers(server: Victim, faults: Faults) -> None:
    """Many short headers in one piece."""
    number = faults.number(5, 200)
    faults.inject("more headers than may be", number)
    for extra in range(number):
        with server.connect() as connection:
            connection.sendall(request(headers="Host: x\r\n" + "a: b\r\n" * (64 + extra)))
            found = statuses(everything(connection))
        faults.check(found == [431], f"{65 + extra} headers got {found}")
    with server.connect() as connection:
        connection.sendall(request(headers="Host: x\r\nConnection: close\r\n" + "a: b\r\n" * 62))
        faults.check(statuses(everything(connection)) == [200], "64 headers were refused")


def long_target(server: Victim, faults: Faults) -> None:
    """A target that is too long, in one piece and without end."""
    number = faults.number(4, 200)
    faults.inject("a target that is too long", number)
    for which in range(number):
        with server.connect() as connection:
            path = b"/livez?" + b"a" * (5_000 + 50 * which)
            send_all(connection, b"GET " + path + (b" HTTP/1.1\r\nHost: x\r\n\r\n" * (which % 2)))
            found = statuses(everything(connection))
        faults.check(found == [414], f"a target of {len(path)} bytes got {found}")


def slow_headers(server: Victim, faults: Faults) -> None:
    """More connections than there may be, each with a byte now and then."""
    number = 1_100
    faults.inject("connections that send a header byte by byte", number)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(server.connect()) for _ in range(number)]
        end = time.monotonic() + 2.5 * SLOW
        text, at = b"GET /livez HTTP/1.1\r\n", 0
        while time.monotonic() < end:
            letter = text[at % len(text) : at % len(text) + 1]
            at += 1
            for connection in held:
                with contextlib.suppress(OSError):
                    connection.send(letter, socket.MSG_DONTWAIT)
            time.sleep(0.2)
        open_still = _open_at_last(held)
    faults.check(open_still == 0, f"{open_still} of {number} slow connections are open still")


def silent_connections(server: Victim, faults: Faults) -> None:
    """Connections that say nothing, or only what may stand before a request."""
    number = faults.number(400, 3_000)
    faults.inject("connections that say nothing", number)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(server.connect()) for _ in range(number)]
        end = time.monotonic() + 2.0 * SLOW
        while time.monotonic() < end:
            for connection in held[::2]:
                with contextlib.suppress(OSError):
                    connection.send(b"\r\n", socket.MSG_DONTWAIT)
            time.sleep(0.3)
        open_still = _open_at_last(held)
    faults.check(open_still == 0, f"{open_still} of {number} silent connections are open still")


def slow_body(server: Victim, faults: Faults) -> None:
    """Bodies that arrive byte by byte, by length and in chunks."""
    number = faults.number(60, 200)
    faults.inject("bodies that arrive byte by byte", number)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(server.connect()) for _ in range(number)]
        for which, connection in enumerate(held):
            frame = "Transfer-Encoding: chunked" if which % 2 else "Content-Length: 60000"
            head = f"POST /v1/recommendations HTTP/1.1\r\n{HEADERS}{frame}\r\n\r\n"
            send_all(connection, head.encode() + (b"1\r\n{\r\n" if which % 2 else b"{"))
        end = time.monotonic() + 2.0 * SLOW
        while time.monotonic() < end:
            for which, connection in enumerate(held):
                with contextlib.suppress(OSError):
                    drop = b"1\r\n \r\n" if which % 2 else b" "
                    connection.send(drop, socket.MSG_DONTWAIT)
            time.sleep(0.2)
        answers = [_received(connection) for connection in held]
    wrong = [found for found in answers if found not in ([408], [])]
    faults.check(not wrong, f"slow bodies got {wrong[:3]}")
    faults.check(answers.count([408]) > number // 2, "slow bodies were not told so")


def endless_chunks(server: Victim, faults: Faults) -> None:
    """Chunks, extensions of chunks, and trailers without end."""
    number = faults.number(6, 300)
    faults.inject("chunked bodies without end", number)
    drops = (
        b"1\r\n \r\n" * 200,
        b"1000\r\n" + b" " * 4_096 + b"\r\n",
        b";a=" + b"b" * 1_000,
        b"X-Trailer: abcdefgh\r\n" * 50,
        b"0" * 1_000,
        b"0\r\n" + b"X: " + b"y" * 2_000,
    )
    head = f"POST /v1/recommendations HTTP/1.1\r\n{HEADERS}Transfer-Encoding: chunked\r\n\r\n"
    starts = (b"", b"", b"1", b"0\r\n", b"", b"")
    for which in range(number):
        kind = which % len(drops)
        with server.connect() as connection:
            connection.sendall(head.encode() + starts[kind])
            taken = 0
            while taken < 20_000 and send_all(connection, drops[kind]):
                taken += 1
            faults.check(taken < 20_000, f"endless chunks of kind {kind} were taken")
            found = statuses(everything(connection))
            faults.check(found in ([413], [400], [422], []), f"chunks of kind {kind} got {found}")


def half_closed(server: Victim, faults: Faults) -> None:
    """Clients that send no more: the answer to a whole request still comes."""
    number = faults.number(20, 500)
    faults.inject("connections closed on one side", number)
    for which in range(number):
        whole = which % 2 == 0
        with server.connect() as connection:
            data = post(b"{}")
            connection.sendall(data if whole else data[: len(data) - 1 - which])
            connection.shutdown(socket.SHUT_WR)
            found = statuses(everything(connection))
        faults.check(found == ([200] if whole else []), f"half-closed ({whole}) got {found}")


def gone(server: Victim, faults: Faults) -> None:
    """Clients that ask and leave, also with a reset."""
    number = faults.number(60, 3_000)
    faults.inject("clients that ask and leave", number)
    for which in range(number):
        with server.connect() as connection:
            if which % 2:
                linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # a reset instead of an end
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.sendall(post(b"{}")[: None if which % 3 else -1])


def flood(server: Victim, faults: Faults) -> None:
    """Connections opened and closed as fast as can be."""
    number = faults.number(800, 5_000)
    faults.inject("connections opened and closed at once", number)
    for _ in range(number):
        server.connect().close()


def garbage(server: Victim, faults: Faults) -> None:
    """Bytes of no meaning, alone and in the place of parts of a request."""
    number = faults.number(150, 2_000)
    faults.inject("bytes of no meaning", number)
    draw = random.Random(7)
    good = request(headers="Host: x\r\nConnection: close\r\n")
    for _ in range(number):
        data = bytearray(good)
        kind = draw.randrange(4)
        if kind == 0:
            data = bytearray(draw.randbytes(draw.randrange(1, 300)))
        elif kind == 1:
            for _ in range(draw.randrange(1, 6)):
                data[draw.randrange(len(data))] = draw.randrange(256)
        elif kind == 2:
            at = draw.randrange(len(data))
            data[at:at] = draw.randbytes(draw.randrange(1, 40))
        else:
            data = data[draw.randrange(len(data)) :]
        with server.connect() as connection:
            send_all(connection, bytes(data))
            connection.shutdown(socket.SHUT_WR)
            found = statuses(everything(connection))
        fine = len(found) <= 1 and not {500, 503} & set(found)
        faults.check(fine, f"{bytes(data)!r} got {found}")


HIDDEN = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
SMUGGLING = {
    "both, the length first": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both, the chunks first": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}",
    "the same length twice": b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a list of lengths": b"Content-Length: 2, 2\r\n\r\n{}",
    "a length with a sign": b"Content-Length: +2\r\n\r\n{}",
    "a negative length": b"Content-Length: -2\r\n\r\n{}",
    "a length of hexadecimals": b"Content-Length: 0x2\r\n\r\n{}",
    "a length of many digits": b"Content-Length: 99999999999999999999999\r\n\r\n{}",
    "no digits": b"Content-Length:\r\n\r\n{}",
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a coding before chunks": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding after chunks": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunks twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a tab within": b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a folded header": b"Content-Length: 2\r\nA: b\r\n c\r\n\r\n{}",
    "a bare line feed": b"Content-Length: 2\nA: b\r\n\r\n{}",
    "a bare return": b"Content-Length: 2\r\nA: b\rc\r\n\r\n{}",
    "a NUL": b"Content-Length: 2\r\nA: b\0c\r\n\r\n{}",
    "a header without a colon": b"Content-Length: 2\r\nAbc\r\n\r\n{}",
    "a chunk's bare line feeds": b"Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
    "a chunk of many digits": b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}",
    "a length in the trailer": b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 7\r\n\r\n",
}


def smuggling(server: Victim, faults: Faults) -> None:
    """Requests that two servers might end at different places: none is taken, and what stands
    behind is no request."""
    faults.inject("requests whose end is ambiguous", len(SMUGGLING))
    for name, rest in SMUGGLING.items():
        with server.connect() as connection:
            head = f"POST /v1/recommendations HTTP/1.1\r\n{HEADERS}"
            send_all(connection, head.encode() + rest + HIDDEN)
            found = statuses(everything(connection))
        fine = len(found) <= 1 and set(found) <= {400, 501}
        faults.check(fine, f"{name} got {found}")


def other_protocols(server: Victim, faults: Faults) -> None:
    """Other versions, targets and hosts than those that are served."""
    shapes = {
        b"GET /livez HTTP/1.0\r\n\r\n": 200,
        b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n": 200,
        b"POST /livez HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 501,
        b"GET /livez\r\n\r\n": 400,
        b"GET /livez HTTP/0.9\r\n\r\n": 400,
        b"GET /livez HTTP/1.2\r\nHost: x\r\n\r\n": 400,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 400,
        b"SETUP /livez RTSP/1.0\r\nHost: x\r\n\r\n": 400,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03": 400,
        b"get /livez HTTP/1.1\r\nHost: x\r\n\r\n": 400,
        b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n": 400,
        b"GET http://x/livez HTTP/1.1\r\nHost: x\r\n\r\n": 400,
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n": 400,
        b"GET /livez#a HTTP/1.1\r\nHost: x\r\n\r\n": 400,
        b"GET /livez HTTP/1.1\r\n\r\n": 400,
        b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n": 400,
        b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n": 200,
        b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n": 200,
    }
    faults.inject("other protocols, targets and hosts", len(shapes))
    for data, status in shapes.items():
        with server.connect() as connection:
            send_all(connection, data)
            found = statuses(everything(connection))
        faults.check(found == [status], f"{data!r} got {found} instead of {status}")


def pipelined(server: Victim, faults: Faults) -> None:
    """Requests sent ahead: each is answered, in order, one at a time."""
    number = faults.number(400, 3_000)
    faults.inject("requests sent ahead on one connection", number)
    good, bad = request(), request("/nothing")
    with server.connect() as connection:
        last = request(headers="Host: x\r\nConnection: close\r\n")
        sent = b"".join(bad if which % 7 == 3 else good for which in range(number - 1)) + last
        connection.setblocking(False)
        view, received = memoryview(sent), bytearray()
        end = time.monotonic() + 400
        while time.monotonic() < end:
            select.select([connection], [connection] if view else [], [], 1.0)
            with contextlib.suppress(BlockingIOError):
                view = view[connection.send(view[:65_536]) :] if view else view
            with contextlib.suppress(BlockingIOError):
                part = connection.recv(65_536)
                if not part:
                    break
                received += part
    found = statuses(bytes(received))
    wanted = [401 if which % 7 == 3 else 200 for which in range(number - 1)] + [200]
    faults.check(found == wanted, f"{len(found)} of {number} requests sent ahead were answered")


def unread_answers(server: Victim, faults: Faults) -> None:
    """Requests sent ahead by clients that never read."""
    number = faults.number(20, 300)
    faults.inject("clients that never read", number)
    many = request("/openapi.json") * 300
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            connection = stack.enter_context(server.connect())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                connection.send(many)
        time.sleep(1.0)


BODIES: dict[bytes, int] = {
    b'{"top_k": 3, "top_k": 4}': 400,
    b'{"interactions": [{"item_id": "1", "item_id": "2", "value": 3}]}': 400,
    b'{"profile": {"age": "a", "\\u0061ge": "b"}}': 400,
    b'{"profile": {"age": NaN}}': 400,
    b'{"interactions": [{"item_id": "1", "value": Infinity}]}': 400,
    b'{"interactions": [{"item_id": "1", "value": 1e999}]}': 422,
    b'{"interactions": [{"item_id": "1", "value": 1' + b"0" * 400 + b"}]}": 422,
    b'{"top_k": 1' + b"0" * 10_000 + b"}": 400,
    b"[" * 60_000: 400,
    b'{"a":' * 12_000: 400,
    b'{"user_id": "\xff"}': 400,
    b'{"user_id": "\\ud800"}': 400,
    b'\xef\xbb\xbf{"user_id": "a"}': 400,
    '{"user_id": "a"}'.encode("utf-16"): 400,
    b'{"interactions": [{"item_id": "1\\u0000", "value": 3}]}': 200,
    b'{"user_id": "\\u0000"}': 200,
    b'{"user_id": "' + b"a" * 257 + b'"}': 422,
    b"{} {}": 400,
    b"{'a': 1}": 400,
}


def strange_bodies(server: Victim, faults: Faults) -> None:
    """JSON that is none, or says one thing twice, or too much."""
    faults.inject("bodies that are no JSON, or ambiguous", len(BODIES))
    with server.connect() as connection:
        for body, status in BODIES.items():
            connection.sendall(post(body))
            answer = connection.recv(65_536)
            faults.check(statuses(answer) == [status], f"{body[:60]!r} got {answer[:200]!r}")


ATTACKS: tuple[Attack, ...] = (
    huge_header,
    endless_headers,
    many_headers,
    long_target,
    slow_headers,
    silent_connections,
    slow_body,
    endless_chunks,
    half_closed,
    gone,
    flood,
    garbage,
    smuggling,
    other_protocols,
    pipelined,
    unread_answers,
    strange_bodies,
)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_a_hostile_client_disturbs_nobody(server: Victim, faults: Faults, attack: Attack) -> None:
    before = server.megabytes
    with Probe(server) as probe:
        attack(server, faults)
    assert not probe.failures, probe.failures[:3]
    assert probe.seconds, "nobody looked"
    assert max(probe.seconds) < probe.may_take, f"/livez took {max(probe.seconds):.2f} s"
    assert probe.megabytes < before + MEGABYTES, f"{before:.0f} MB became {probe.megabytes:.0f}"
    assert server.is_right(HONEST)
    assert server.process.poll() is None
    assert "Traceback" not in server.log.read_text()


@pytest.mark.skipif(not IS_LINUX, reason="limits of another process can be set on Linux alone")
def test_without_files_left_the_server_waits_and_comes_back(server: Victim, faults: Faults) -> None:
    """It neither ends nor spins, goes on answering who is connected, and lets others in later."""
    number = 120
    faults.inject("connections when no more files may be opened", number)
    limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    with server.connect() as known:
        known.sendall(request())
        assert known.recv(4_096).startswith(b"HTTP/1.1 200")
        opened = len(list(_files(server)))
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (opened + 10, limits[1]))
        try:
            with contextlib.ExitStack() as stack:
                for _ in range(number):
                    stack.enter_context(server.connect())
                time.sleep(0.3)
                before = server.cpu_seconds
                time.sleep(1.0)
                spent = server.cpu_seconds - before
                faults.check(spent < 0.5, f"{spent:.2f} s of processor time in a second")
                known.sendall(request())
                faults.check(known.recv(4_096).startswith(b"HTTP/1.1 200"), "no answer")
        finally:
            resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limits)
    faults.check(server.is_right(HONEST), "another answer afterwards")


def _files(server: Victim) -> Iterator[Any]:
    from pathlib import Path

    return Path(f"/proc/{server.process.pid}/fd").iterdir()


def _open_at_last(connections: Sequence[socket.socket]) -> int:
    """Return how many connections the server does not close, in the time of a busy machine."""
    end = time.monotonic() + 30
    while (number := sum(_is_open(one) for one in connections)) and time.monotonic() < end:
        time.sleep(0.2)
    return number


def _is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        while connection.recv(65_536):
            pass
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _received(connection: socket.socket) -> list[int]:
    connection.settimeout(30)
    try:
        return statuses(everything(connection))
    except TimeoutError:
        return [-1]
