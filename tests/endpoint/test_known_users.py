"""Users who come back: events are kept and followed at once, histories are read, and each event
comes into the log once."""

import doctest
import shutil
import time
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest
from served import KEY, RECOMMENDATIONS, Served, body, serving, until

from recmeta import client, schema
from recmeta.client import Client, EndpointError, Event, Interaction, User
from recmeta.endpoint.answers.champion import RegistrySource
from recmeta.endpoint.events.histories import LogRows, UserHistories
from recmeta.logs import tables
from recmeta.steps.data import ingest
from recmeta.workspace import Workspace

EVENTS, BATCH = "/v1/events", f"{RECOMMENDATIONS}/batch"


@pytest.fixture(scope="module")
def own(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of the workspace, whose log these tests change."""
    folder = tmp_path_factory.mktemp("own") / "ws"
    shutil.copytree(workspace.path, folder)
    return Workspace(folder)


@pytest.fixture(scope="module")
def histories(own: Workspace) -> UserHistories:
    return UserHistories(own)


@pytest.fixture(scope="module")
def known(own: Workspace, histories: UserHistories) -> Iterator[Served]:
    """A server that keeps events."""
    with serving(RegistrySource(own), histories=histories, poll_seconds=3600.0) as found:
        yield found


@pytest.fixture
def shop(known: Served) -> Iterator[Client]:
    with Client(known.url, key=KEY, timeout=20.0) as found:
        yield found


def event(event_id: str, **more: Any) -> dict[str, Any]:
    return {"event_id": event_id, "user_id": "u", "item_id": "i03", "value": 4.0, **more}


def sent(served: Served, *events: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    answer = served.client.post(EVENTS, json={"events": list(events)})
    return answer.status_code, answer.json()


# The client --------------------------------------------------------------------------------------


def test_the_clients_example_runs_and_the_list_follows_within_a_second(known: Served) -> None:
    text = (client.__doc__ or "").replace("http://127.0.0.1:8000", known.url)
    example = doctest.DocTestParser().get_doctest(
        text.replace("the-key-of-this-shop", KEY), {}, "recmeta.client", None, None
    )
    assert len(example.examples) == 8
    began = time.monotonic()
    found = doctest.DocTestRunner().run(example)
    assert (found.failed, found.attempted) == (0, 8)
    assert time.monotonic() - began < 1.0


def test_the_client_says_what_the_server_says(shop: Client, known: Served) -> None:
    rows = [("i03", 5.0), ("i07", 1.0)]
    found = shop.recommend(
        interactions=[Interaction(item_id=item, value=value) for item, value in rows],
        profile={"age": 30.0},
        top_k=4,
    )
    expected = known.ask(*rows, profile={"age": 30.0}, top_k=4)
    assert found.answer == expected
    assert [one.item_id for one in found.items] == [
        one["item_id"] for one in expected["recommendations"]
    ]
    assert found.items[0].reasons[0].because_item in {"i03", "i07"}
    both = shop.recommend_to([User(top_k=2), User(top_k=3, exclude=["i00"])])
    assert [len(one.items) for one in both] == [2, 3]
    assert "i07" in {one.item_id for one in shop.search("film no. 7")}
    alike = known.client.get("/v1/similar/i03").json()["items"]
    assert [one.item_id for one in shop.similar("i03")] == [one["item_id"] for one in alike]
    with pytest.raises(EndpointError, match="must be between 1 and 5") as refused:
        shop.send(Event(user_id="u", item_id="i03", value=9.0))
    assert refused.value.status == 422


# Events ------------------------------------------------------------------------------------------


def test_an_event_counts_once_and_at_once(known: Served) -> None:
    mine = {"user_id": "ann"}
    assert sent(known, event("ann-1", **mine))[1]["accepted"] == 1
    answer = known.ask(user_id="ann", top_k=40)
    assert (answer["num_used"], answer["num_known"]) == (1, 1)
    given = known.ask(("i03", 4.0), top_k=40)
    assert answer["recommendations"] == given["recommendations"]
    again = event("ann-2", **mine, item_id="i05", value=1.0)
    status, told = sent(known, event("ann-1", **mine), again)
    assert (status, told["accepted"], told["duplicates"]) == (200, 1, 1)
    more = known.ask(("i07", 2.0), user_id="ann", top_k=40)
    given = known.ask(("i03", 4.0), ("i05", 1.0), ("i07", 2.0), top_k=40)
    assert more["recommendations"] == given["recommendations"]
    late = event("ann-3", **mine, item_id="i03", value=2.0)
    status, _ = sent(known, late, event("ann-4", **mine, event="view", value=7.0))
    assert status == 200
    newest = known.ask(user_id="ann", top_k=40)  # the later rating counts, and no view
    assert (
        newest["recommendations"]
        == known.ask(("i05", 1.0), ("i03", 2.0), top_k=40)["recommendations"]
    )
    unknown = sent(known, event("ann-5", **mine, item_id="to-come"))[1]["warnings"]
    assert [(w["code"], w["field"]) for w in unknown] == [("unknown_item", "events[0].item_id")]


@pytest.mark.parametrize(
    ("events", "status", "field"),
    [
        ([event("x", value=9.0)], 422, "events[0].value"),
        ([event("x"), event("y", event="rating", value=None)], 422, "events[1].value"),
        ([event("x", timestamp="2999-01-01T00:00:00Z")], 422, "events[0].timestamp"),
        ([event("x", timestamp="1969-12-31T23:59:59Z")], 422, "events[0].timestamp"),
        ([event("x", timestamp="2026-01-01T00:00:00")], 422, "events[0].timestamp"),
        ([event("an id")], 422, "events[0].event_id"),
        ([event("x" * 129)], 422, "events[0].event_id"),
        ([event("x", user_id=" ")], 422, "events[0].user_id"),
        ([event("x", item_id=3)], 422, "events[0].item_id"),
        ([event("x", event="a b")], 422, "events[0].event"),
        ([event("x", price=3)], 422, "events[0].price"),
        ([], 422, "events"),
        ([event(f"x{n}") for n in range(101)], 422, "events"),
    ],
)
def test_events_that_do_not_fit_are_told_where_and_none_is_kept(
    known: Served, events: list[dict[str, Any]], status: int, field: str
) -> None:
    found, told = sent(known, *events)
    assert found == status
    assert told["errors"][0]["field"] == field
    assert sent(known, event("x", user_id="nobody-else"))[0] == 200  # the id was not taken
    assert sent(known, event("x", user_id="nobody-else"))[1]["duplicates"] == 1


def test_an_id_is_one_events_alone(known: Served) -> None:
    assert sent(known, event("taken", user_id="cy"))[0] == 200
    status, told = sent(known, event("free", user_id="cy"), event("taken", user_id="di"))
    assert status == 409
    assert told["detail"] == "events[1].event_id: belongs to another event; none was kept."
    assert sent(known, event("free", user_id="cy"))[1] == {
        "accepted": 1,
        "duplicates": 0,
        "warnings": [],
    }
    twice = b'{"events":[{"event_id":"e","user_id":"u","user_id":"v","item_id":"i03","value":3}]}'
    headers = {"Content-Type": "application/json"}
    assert known.client.post(EVENTS, content=twice, headers=headers).status_code == 400
    metrics = known.client.get("/metrics").text
    assert 'recmeta_events_total{outcome="duplicate"}' in metrics


def test_a_server_without_histories_keeps_nothing(served: Served) -> None:
    status, told = sent(served, event("e"))
    assert status == 403
    assert told["detail"] == "this server keeps no events: start it with --history."
    assert served.ask(user_id="u")["num_known"] == 0


# Histories ---------------------------------------------------------------------------------------


def test_a_user_of_the_log_is_known(
    known: Served, own: Workspace, histories: UserHistories
) -> None:
    log = tables.scan(own, schema.INTERACTIONS).collect().sort("timestamp")
    (user, *_) = sorted(log["user_id"].unique())
    rows = log.filter(pl.col("user_id") == user)
    past = histories.of([user, "nobody"])
    assert list(past) == [user]
    assert [one.item_id for one in past[user].past] == rows["item_id"].to_list()
    assert [one.value for one in past[user].past] == rows["value"].to_list()
    users = tables.scan(own, schema.USERS).filter(pl.col("user_id") == user).collect()
    profile = users.select("age", "group").to_dicts()[0]
    assert past[user].profile == {name: v for name, v in profile.items() if v is not None}
    answer = known.ask(user_id=user, top_k=40)
    pairs = rows.select("item_id", "value").rows()
    given = known.ask(*pairs, profile=profile, top_k=40)
    older = {**profile, "age": 99.0}
    assert (
        known.ask(user_id=user, profile={"age": 99.0}, top_k=40)["recommendations"]
        == known.ask(*pairs, profile=older, top_k=40)["recommendations"]
    )
    assert answer["num_known"] == rows.height
    assert answer["recommendations"] == given["recommendations"]


def test_what_ingest_has_taken_in_is_known_once(
    known: Served, own: Workspace, histories: UserHistories
) -> None:
    assert (
        sent(known, event("eve-1", user_id="eve"), event("eve-2", user_id="eve", item_id="i05"))[0]
        == 200
    )
    before = known.ask(user_id="eve")
    counts = ingest.take_in_events(own)
    assert counts["accepted"] == counts["rows_read"] >= 2
    assert ingest.take_in_events(own)["rows_read"] == 0
    assert LogRows.read(own).of("eve") == histories.of(["eve"])["eve"].past
    assert known.ask(user_id="eve") == before
    histories.refresh()  # now both have them
    assert known.ask(user_id="eve") == before
    assert before["num_known"] == 2


# Several users -----------------------------------------------------------------------------------


def test_several_users_are_answered_as_each_alone(known: Served) -> None:
    users = [body(("i03", 5.0), top_k=3), body(top_k=2), body(("i05", 1.0), ("zz", 2.0))]
    found = known.client.post(BATCH, json={"users": users}).json()["answers"]
    for answer, user in zip(found, users, strict=True):
        alone = known.client.post(RECOMMENDATIONS, json=user).json()
        assert answer["warnings"] == alone["warnings"]
        for one, other in zip(answer["recommendations"], alone["recommendations"], strict=True):
            assert one["item_id"] == other["item_id"]
            assert one["score"] == pytest.approx(other["score"], abs=1e-5)
    bad = known.client.post(BATCH, json={"users": [users[0], body(("i03", 9.0))]})
    assert bad.status_code == 422
    assert bad.json()["errors"][0]["field"] == "users[1].interactions[0].value"
    assert known.client.post(BATCH, json={"users": [{}] * 17}).status_code == 422
    assert known.client.post(BATCH, json={"users": []}).status_code == 422
    until(lambda: known.app.state.connections.admission.num_in_hand == 0)


def test_several_users_count_as_several_requests(source: RegistrySource) -> None:
    with serving(source, requests_per_second=1.0, burst=20, queue_users=12) as limited:
        full = limited.client.post(BATCH, json={"users": [{}] * 13})
        assert (full.status_code, full.headers["retry-after"]) == (503, "1")
        assert limited.client.post(BATCH, json={"users": [{"top_k": 1}] * 6}).status_code == 200
        spent = limited.client.post(BATCH, json={"users": [{"top_k": 1}] * 12})
        assert spent.status_code == 429
