"""Who is let in where there is no room, and whose connections are counted together."""

import asyncio
import socket
import threading

import pytest
from served import RECOMMENDATIONS, body, serving, until

from recmeta.endpoint.answers.champion import RegistrySource
from recmeta.endpoint.config import EndpointConfig
from recmeta.endpoint.guard.connections import Connections, client_of
from recmeta.endpoint.operation.metrics import Metrics


class Kept:
    """A connection that notes what is done to it."""

    def __init__(self, client: str | None) -> None:
        self.client = client
        self.deadline = float("inf")
        self.gave_way = self.expired = False

    def expire(self) -> None:
        self.expired = True

    def give_way(self) -> None:
        self.gave_way = True


def _with(most: int, of_client: int, *proxies: str) -> Connections:
    config = EndpointConfig(
        max_connections=most, max_connections_per_client=of_client, proxies=proxies
    )
    return Connections(config, Metrics(), keys=None)


def test_of_one_client_the_connection_that_waits_longest_gives_way() -> None:
    async def scenario() -> None:
        connections = _with(10, 3)
        mine = [Kept("a") for _ in range(3)]
        other = Kept("b")
        assert all(connections.admit(one) for one in (other, *mine))
        connections.waits(mine[0])  # it has just been served
        connections.works(mine[1])
        newcomer = Kept("a")
        assert connections.admit(newcomer)
        assert [one.gave_way for one in mine] == [False, False, True]
        assert not other.gave_way
        assert len(connections) == 4

    asyncio.run(scenario())


def test_where_all_are_at_work_a_newcomer_is_refused() -> None:
    async def scenario() -> None:
        connections = _with(2, 2)
        first, second = Kept("a"), Kept("b")
        for one in (first, second):
            assert connections.admit(one)
            connections.works(one)
        assert not connections.admit(Kept("c"))
        connections.leave(first)
        connections.leave(first)
        assert connections.admit(Kept("c"))
        assert len(connections) == 2

    asyncio.run(scenario())


def test_in_all_the_one_that_waits_longest_gives_way_whosever_it_is() -> None:
    async def scenario() -> None:
        connections = _with(3, 3)
        kept = [Kept("a"), Kept("b"), Kept("c")]
        assert all(connections.admit(one) for one in kept)
        assert connections.admit(Kept("a"))
        assert [one.gave_way for one in kept] == [True, False, False]
        assert len(connections) == 3
        for number in range(1_000):  # whoever comes and goes leaves nothing behind
            one = Kept(f"client {number}")
            assert connections.admit(one)
            connections.leave(one)
        assert len(connections._clients) <= 3

    asyncio.run(scenario())


def test_a_proxys_connections_are_limited_in_all_alone() -> None:
    async def scenario() -> None:
        connections = _with(10, 2, "10.0.0.1", "2001:db8::1")
        assert connections.client("10.0.0.1") is None
        assert connections.client("::ffff:10.0.0.1") is None
        assert connections.client("2001:db8::77") is None
        kept = [Kept(None) for _ in range(10)]
        assert all(connections.admit(one) for one in kept)
        assert not any(one.gave_way for one in kept)
        assert connections.admit(Kept(None))
        assert kept[0].gave_way

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_a_client_is_an_address_or_a_subscribers_network(address: str, client: str) -> None:
    assert client_of(address) == client


def test_deadlines_are_looked_at() -> None:
    async def scenario() -> None:
        connections = _with(10, 10)
        late, early = Kept("a"), Kept("a")
        late.deadline = asyncio.get_running_loop().time() - 1
        assert connections.admit(late)
        assert connections.admit(early)
        await asyncio.sleep(0.5)
        assert late.expired
        assert not early.expired

    asyncio.run(scenario())


def test_what_a_client_says_of_its_address_counts_for_nothing(source: RegistrySource) -> None:
    """Each of these connections claims another origin; only three of them stay."""
    with serving(
        source, poll_seconds=3600.0, max_connections_per_client=4, max_connections=50
    ) as served:
        host, port = served.url.removeprefix("http://").split(":")
        held = []
        for number in range(12):
            one = socket.create_connection((host, int(port)), timeout=10)
            origin = f"X-Forwarded-For: 203.0.113.{number}\r\nForwarded: for=203.0.113.{number}"
            one.sendall(f"GET /livez HTTP/1.1\r\nHost: x\r\n{origin}\r\n\r\n".encode())
            assert one.recv(4_096).startswith(b"HTTP/1.1 200")
            held.append(one)
        metrics = served.app.state.metrics
        assert len(served.app.state.connections) == 4
        assert metrics.refused_early.labels("gave_way")._value.get() >= 8
        for one in held:
            one.close()
        until(lambda: served.client.get("/livez").status_code == 200)


def test_a_slow_computation_is_given_up_in_time(source: RegistrySource) -> None:
    goes_on = threading.Event()
    with serving(
        source,
        poll_seconds=3600.0,
        request_seconds=0.5,
        header_seconds=0.5,
        body_seconds=0.5,
    ) as served:
        batcher = served.app.state.batcher
        work = batcher._work

        def slowly(asks: object) -> object:
            goes_on.wait(10)
            return work(asks)

        batcher._work = slowly
        answer = served.client.post(RECOMMENDATIONS, json=body(("i03", 4.0)))
        assert answer.status_code == 503
        assert "took longer than 0.5 s" in answer.json()["detail"]
        assert answer.headers["connection"] == "close"
        goes_on.set()
        batcher._work = work
        assert served.ask(("i03", 4.0))["num_used"] == 1


def test_who_has_no_key_takes_no_place_from_others(source: RegistrySource) -> None:
    """With all places taken, a stranger hears of the key, and whoever has one is sent away."""
    with serving(source, poll_seconds=3600.0, queue_users=1, batch_users=1) as served:
        place = served.app.state.connections.admission.take()
        stranger = served.client.post(
            RECOMMENDATIONS, json=body(), headers={"Authorization": "Bearer another-key-of-16"}
        )
        assert stranger.status_code == 401
        known = served.client.post(RECOMMENDATIONS, json=body())
        assert known.status_code == 503
        assert int(known.headers["retry-after"]) == 1
        served.app.state.connections.admission.done(place, None)
        assert served.client.post(RECOMMENDATIONS, json=body()).status_code == 200
        until(lambda: served.app.state.connections.admission.num_in_hand == 0)
