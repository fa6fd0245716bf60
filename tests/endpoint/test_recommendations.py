"""What the endpoint recommends is what the batch job recommends."""

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from served import RECOMMENDATIONS, Served, body, serving

from recmeta import schema
from recmeta.endpoint.answers.champion import RegistrySource, ServedChampion
from recmeta.logs import tables
from recmeta.logs.mapping import LogMapping
from recmeta.serving.exploration.config import ExploreConfig
from recmeta.serving.intake import GivenUser
from recmeta.serving.list_reasons import list_effects
from recmeta.serving.ranking import ScoringConfig
from recmeta.serving.rules import Rules
from recmeta.steps.serving import adapt, score
from recmeta.workspace import Workspace

USERS = {
    "alice": [("i03", 5.0), ("i07", 1.0), ("i11", 4.0)],
    "bob": [("i00", 2.0)],
    "carol": [("i05", 3.0), ("i06", 3.5), ("i39", 4.5), ("i12", 1.5), ("i20", 5.0)],
    "dora": [("i39", 1.0), ("i38", 2.0)],
}


def champion(served: Served) -> ServedChampion:
    found = served.app.state.holder.current
    assert isinstance(found, ServedChampion)
    return found


def test_lists_are_those_of_the_batch_job(
    served: Served, workspace: Workspace, tmp_path: Path
) -> None:
    with (tmp_path / "new.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "value"])
        writer.writerows((u, *row) for u, rows in USERS.items() for row in rows)
    mapping = LogMapping(path=str(tmp_path / "new.csv"), value_col="value")
    adapted = adapt.run(mapping, workspace, device="cpu")
    score.run(ScoringConfig(top_k=7), workspace, adapted, device="cpu")
    published = tables.scan(workspace, schema.RECOMMENDATIONS).collect().sort("user_id", "rank")
    for user, rows in USERS.items():
        own = published.filter(pl.col("user_id") == user)
        answer = served.ask(*rows, top_k=7)
        assert [r["item_id"] for r in answer["recommendations"]] == own["item_id"].to_list()
        scores = [r["score"] for r in answer["recommendations"]]
        np.testing.assert_allclose(scores, own["score"].to_list(), atol=1e-5)
        assert answer["model_version"] == own["model_version"][0] == "1"
        assert answer["num_used"] == len(rows)
        assert answer["recommendations"][0]["title"].startswith("The Film No. ")


def test_exploration_is_that_of_the_batch_job(workspace: Workspace, tmp_path: Path) -> None:
    rows = USERS["alice"]
    lines = ["user_id,item_id,value", *(f"alice,{item},{value}" for item, value in rows)]
    (tmp_path / "new.csv").write_text("\n".join(lines) + "\n")
    scoring = ScoringConfig(explore=ExploreConfig(share=0.6, by="uniform"))
    mapping = LogMapping(path=str(tmp_path / "new.csv"), value_col="value")
    adapted = adapt.run(mapping, workspace, device="cpu")
    scored = score.run(scoring, workspace, adapted, device="cpu")
    published = tables.scan(workspace, schema.RECOMMENDATIONS).collect().sort("rank")
    published = published.filter(pl.col("run") == scored.outputs.run)
    assert published["listed_by"].n_unique() == 2
    assert scored.counts["explored"] == published["listed_by"].eq("exploration").sum()
    with serving(RegistrySource(workspace, scoring)) as served:
        for length in (10, 3):
            answer = served.ask(*rows, user_id="alice", top_k=length)["recommendations"]
            for name in ("item_id", "listed_by"):
                assert [r[name] for r in answer] == published[name].to_list()[:length]
            found = [r["propensity"] for r in answer]
            np.testing.assert_allclose(found, published["propensity"].to_list()[:length], rtol=1e-5)
            assert max(found) < 1
        other = served.ask(*rows, user_id="alison")["recommendations"]
        assert [r["item_id"] for r in other] != published["item_id"].to_list()


def test_requests_in_one_batch_do_not_change_one_another(served: Served) -> None:
    alone = {user: served.ask(*rows) for user, rows in USERS.items()}
    many = [user for _ in range(12) for user in USERS]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda user: served.ask(*USERS[user]), many))
    for user, answer in zip(many, together, strict=True):
        for one, other in zip(
            alone[user]["recommendations"], answer["recommendations"], strict=True
        ):
            assert one["item_id"] == other["item_id"]
            assert one["score"] == pytest.approx(other["score"], abs=1e-5)
    sizes = served.app.state.metrics.to_text().decode()
    assert 'recmeta_batch_users_bucket{le="1.0"}' in sizes


def test_a_user_of_whom_nothing_is_known_gets_a_list(served: Served) -> None:
    answer = served.client.post(RECOMMENDATIONS, json={}).json()
    assert len(answer["recommendations"]) == 10
    assert answer["num_used"] == 0
    assert answer["recommendations"][0]["reasons"] == []


def test_the_profile_counts(served: Served) -> None:
    young = served.ask(profile={"age": 18, "group": "g0"})
    old = served.ask(profile={"age": 80, "group": "g1"})
    unknown = served.ask(profile={"age": None})
    lists = [[r["score"] for r in a["recommendations"]] for a in (young, old, unknown)]
    assert lists[0] != lists[1] != lists[2]


def test_reasons_say_what_speaks_for_an_item_rather_than_the_others(served: Served) -> None:
    rows = USERS["carol"]
    answer = served.ask(*rows, top_k=5, max_reasons=5)
    total = dict.fromkeys((item for item, _ in rows), 0.0)
    for one in answer["recommendations"]:
        sizes = [abs(reason["effect"]) for reason in one["reasons"]]
        assert sizes == sorted(sizes, reverse=True)
        for reason in one["reasons"]:
            total[reason["because_item"]] += reason["effect"]
    # An effect is relative to the row's mean effect on the list.
    np.testing.assert_allclose(list(total.values()), 0, atol=1e-5)
    scorer, intake = champion(served).scorer, champion(served).intake
    items, values = zip(*rows, strict=True)
    tasks = intake.tasks([GivenUser(item_id=items, value=values, time=(None,) * len(items))])
    number = {item: n for n, item in enumerate(champion(served).item_ids)}
    item_Bk = np.array([[number[r["item_id"]] for r in answer["recommendations"]]])
    expected = list_effects(scorer, scorer.adapt(tasks), tasks, item_Bk)
    given = [champion(served).item_ids[n] for n in tasks.support.item]
    for place, one in enumerate(answer["recommendations"]):
        for reason in one["reasons"]:
            effect = expected.effect_Nk[given.index(reason["because_item"]), place]
            assert reason["effect"] == pytest.approx(effect, abs=1e-5)
    assert served.ask(*rows, max_reasons=0)["recommendations"][0]["reasons"] == []
    likely = [one["relative_likelihood"] for one in answer["recommendations"]]
    assert likely[0] == 1
    assert likely == sorted(likely, reverse=True)


def test_a_list_of_more_than_there_is_has_all_of_it(served: Served) -> None:
    rows = USERS["carol"]
    answer = served.ask(*rows, top_k=100, max_reasons=2)
    num_items = champion(served).model.catalogue.num_items
    assert len(answer["recommendations"]) == num_items - len(rows) < 100
    assert all(0 < len(one["reasons"]) <= 2 for one in answer["recommendations"])


def test_what_does_not_count_is_named(served: Served) -> None:
    answer = served.ask(("i03", 5.0), ("nope", 3.0), ("i03", 1.0))
    assert answer["num_used"] == 1
    assert [(w["code"], w["field"]) for w in answer["warnings"]] == [
        ("duplicate_item", "interactions[0].item_id"),
        ("unknown_item", "interactions[1].item_id"),
    ]
    assert "'nope'" in answer["warnings"][1]["message"]
    timed = body(("i03", 5.0), ("i03", 1.0))
    timed["interactions"][0]["timestamp"] = "2026-05-01T12:30:00Z"
    timed["interactions"][1]["timestamp"] = "2026-05-01T13:30:00+02:00"
    warnings = served.client.post(RECOMMENDATIONS, json=timed).json()["warnings"]
    assert [w["field"] for w in warnings] == ["interactions[1].item_id"]  # the earlier one


@pytest.mark.parametrize(
    ("sent", "field", "said"),
    [
        (body(("i03", 9.0)), "interactions[0].value", "between 1 and 5"),
        ({"interactions": [{"item_id": "i03"}]}, "interactions[0].value", "is missing"),
        (body(("i03", 3.0), profile={"agee": 3}), "profile.agee", "Did you mean 'age'?"),
        (body(profile={"age": "old"}), "profile.age", "must be a number"),
        (body(profile={"group": 3}), "profile.group", "must be text"),
        (body(top_k=0), "top_k", "greater than or equal to 1"),
        (body(top_k=101), "top_k", "less than or equal to 100"),
        (body(top_k="10"), "top_k", "whole number"),
        (body(top_k=3.5), "top_k", "integer"),
        (body(top_k=True), "top_k", "whole number"),
        ({"interactions": [{"value": 3.0}]}, "interactions[0].item_id", "is missing"),
        ({"interactions": [{"item_id": 3, "value": 3.0}]}, "interactions[0].item_id", "string"),
        ({"interactions": [{"item_id": " ", "value": 3.0}]}, "interactions[0].item_id", "match"),
        ({"interactions": "i03"}, "interactions", "list"),
        ({"interaction": []}, "interaction", "not permitted"),
        (body(*[("i03", 3.0)] * 201), "interactions", "200"),
        (
            {"interactions": [{"item_id": "i03", "value": 3, "timestamp": "yesterday"}]},
            "interactions[0].timestamp",
            "datetime",
        ),
    ],
)
def test_a_body_that_does_not_fit_is_told_where(
    served: Served, sent: dict[str, object], field: str, said: str
) -> None:
    answer = served.client.post(RECOMMENDATIONS, json=sent)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    (first, *_) = answer.json()["errors"]
    assert first["field"] == field
    assert said in first["message"]


def test_items_are_found_by_the_words_of_their_titles(served: Served) -> None:
    found = served.client.get("/v1/items", params={"query": "film NO. 3", "limit": 50}).json()
    titles = {item["title"] for item in found["items"]}
    assert titles == {f"The Film No. {n}" for n in range(40) if "3" in str(n)}
    popularity = dict(zip(champion(served).item_ids, champion(served).popularity, strict=True))
    counts = [popularity[item["item_id"]] for item in found["items"]]
    assert counts == sorted(counts, reverse=True)
    assert served.client.get("/v1/items", params={"query": "%.*"}).json() == {"items": []}
    assert served.client.get("/v1/items", params={"query": " "}).status_code == 422


def test_the_model_says_what_it_takes(served: Served) -> None:
    found = served.client.get("/v1/model").json()
    assert found["value_range"] == [1.0, 5.0]
    assert {(f["name"], f["kind"]) for f in found["profile"]} == {
        ("age", "numeric"),
        ("group", "categorical"),
    }
    assert [point["shots"] for point in found["curve"]["points"]][:2] == [0, 2]


def test_business_rules_hold_online_too(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "deny.txt").write_text("i00\ni05\n")
    rules = Rules(deny=str(tmp_path / "deny.txt"), min_interactions=2)
    with serving(RegistrySource(workspace, ScoringConfig(rules=rules))) as served:
        known = served.ask(*USERS["alice"], top_k=40)["recommendations"]
        assert {one["listed_by"] for one in known} == {"model"}
        assert not {"i00", "i05"} & {one["item_id"] for one in known}
        fallen_back = served.ask(*USERS["bob"], top_k=4)["recommendations"]
        assert [one["listed_by"] for one in fallen_back] == ["popularity"] * 4
        assert all(one["reasons"] == [] for one in fallen_back)
