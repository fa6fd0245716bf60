"""Candidates, exclusions and filters leave the order as it is, and let nothing else in."""

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from served import RECOMMENDATIONS, Served, body

from recmeta.endpoint.answers.champion import ServedChampion
from recmeta.endpoint.answers.items import similar
from recmeta.endpoint.answers.models import Range
from recmeta.endpoint.answers.restrictions import ItemAttributes, Restrictions
from recmeta.errors import FieldError
from recmeta.metalearn.heads.choice_head import ChoiceHead
from recmeta.metalearn.heads.neighbours import taken_together
from recmeta.tasks.item_files import Items
from recmeta.tasks.task_set import Ragged

ITEMS = Items(
    pa.array(["a", "b", "c", "d"]),
    np.array([0, 0, 1, 2, 3], np.int32),
    np.array([0, 10, 0, 0, 0]),
    pa.table(
        {
            "genres": [["old"], ["comedy", "drama"], ["drama"], [], None],
            "year": [1900.0, 1990.0, 2000.0, None, 2010.0],
            "shelf": ["x", "x", "y", None, "y"],
            "vector": [[0.5]] * 5,
        }
    ),
)
"""Of the item a the second version counts."""
NUMBER_OF = {"a": 0, "b": 1, "c": 2, "d": 3}


@pytest.mark.parametrize(
    ("wanted", "passing"),
    [
        (Restrictions(), "abcd"),
        (Restrictions(candidates=["d", "a", "z", " b "]), "abd"),
        (Restrictions(candidates=[]), ""),
        (Restrictions(exclude=["a", "z"]), "bcd"),
        (Restrictions(candidates=["a", "b"], exclude=["a"]), "b"),
        (Restrictions(filters={"genres": ["drama"]}), "ab"),
        (Restrictions(filters={"genres": ["comedy", "old"]}), "a"),
        (Restrictions(filters={"shelf": ["y"]}), "bd"),
        (Restrictions(filters={"year": Range(min=1990, max=2000)}), "ab"),
        (Restrictions(filters={"year": Range(max=1999)}), "a"),
        (Restrictions(filters={"year": Range(min=1995), "shelf": ["y"]}, exclude=["d"]), "b"),
    ],
)
def test_an_item_passes_where_all_holds(wanted: Restrictions, passing: str) -> None:
    allowed = wanted.allowed(ItemAttributes(ITEMS), NUMBER_OF)
    assert "".join(np.array(list(NUMBER_OF))[allowed]) == passing


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Restrictions(filters={"genre": ["x"]}), "no such attribute. Did you mean 'genres'?"),
        (Restrictions(filters={"vector": ["x"]}), "no such attribute"),
        (Restrictions(filters={"year": ["1990"]}), "must be a range of min and max"),
        (Restrictions(filters={"shelf": Range(min=1)}), "must be a list of values"),
    ],
)
def test_an_attribute_that_cannot_be_asked_so_is_refused(wanted: Restrictions, said: str) -> None:
    with pytest.raises(FieldError, match=said.replace("?", r"\?")):
        wanted.check(ItemAttributes(ITEMS), NUMBER_OF)


def test_what_is_named_and_not_there_is_told() -> None:
    wanted = Restrictions(candidates=["a", "q"], filters={"genres": ["drama", "comedi"]})
    told = wanted.check(ItemAttributes(ITEMS), NUMBER_OF)
    assert [(one.code, one.field) for one in told] == [
        ("unknown_item", "candidates[1]"),
        ("unknown_value", "filters.genres"),
    ]
    assert "Did you mean 'comedy'?" in told[1].message


def test_what_was_meant_is_looked_for_once_a_request() -> None:
    """It takes milliseconds, and a request has room for thousands of unknown values."""
    unknown = [f"comed{n}" for n in range(30)]
    wanted = Restrictions(filters={"genres": unknown, "shelf": unknown})
    told = wanted.check(ItemAttributes(ITEMS), NUMBER_OF)
    assert len(told) == 2 * 20
    assert [n for n, one in enumerate(told) if "Did you mean" in one.message] == [0]


def test_a_restricted_list_is_the_whole_one_without_the_others(served: Served) -> None:
    rows = [("i03", 5.0), ("i07", 1.0)]
    whole = served.ask(*rows, top_k=40, max_reasons=0)["recommendations"]
    titles = [f"The Film No. {n}" for n in range(0, 40, 3)]
    for restricted, kept in (
        ({"candidates": ["i20", "i03", "i30", "i10"]}, {"i10", "i20", "i30"}),
        ({"exclude": [one["item_id"] for one in whole[:5]]}, {w["item_id"] for w in whole[5:]}),
        ({"filters": {"title": titles}}, {f"i{n:02d}" for n in range(0, 40, 3)} - {"i03"}),
    ):
        found = served.ask(*rows, top_k=40, max_reasons=0, **restricted)["recommendations"]
        expected = [one for one in whole if one["item_id"] in kept]
        assert [one["item_id"] for one in found] == [one["item_id"] for one in expected]
        assert [one["score"] for one in found] == [one["score"] for one in expected]
        assert found[0]["relative_likelihood"] == 1
    nothing = served.ask(*rows, filters={"title": ["Nosuch"]})
    assert nothing["recommendations"] == []
    assert [w["code"] for w in nothing["warnings"]] == ["unknown_value"]
    together = served.client.post(
        f"{RECOMMENDATIONS}/batch",
        json={"users": [body(*rows, candidates=["i20"]), body(*rows, top_k=40, max_reasons=0)]},
    ).json()["answers"]
    assert [one["item_id"] for one in together[0]["recommendations"]] == ["i20"]
    assert len(together[1]["recommendations"]) == len(whole)  # another's wishes are not its own


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"candidates": []}, "candidates"),
        ({"candidates": ["i03"] * 1_001}, "candidates"),
        ({"exclude": [3]}, "exclude[0]"),
        ({"filters": {"title": []}}, "filters.title.values"),
        ({"filters": {"title": {"min": "1"}}}, "filters.title.range.min"),
        ({"filters": {"title": {"from": 1}}}, "filters.title.range.from"),
        ({"filters": {"title": {}}}, "filters.title.range"),
        ({"filters": {f"a{n}": ["x"] for n in range(21)}}, "filters"),
    ],
)
def test_what_does_not_fit_is_told_where(
    served: Served, sent: dict[str, object], field: str
) -> None:
    answer = served.client.post(RECOMMENDATIONS, json=sent)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


def test_similar_items_are_those_of_the_models_vectors_or_tables(served: Served) -> None:
    champion = served.app.state.holder.current
    number = np.arange(40)
    choices = ChoiceHead.init(
        number,
        torch.randn((40, 6), generator=torch.Generator().manual_seed(0)),
        1.0,
        2,
        most_rows=10,
        in_order=True,
    )
    vectors = choices.params["predicts"].numpy()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit[3]
    cosine[3] = -1
    found = similar(with_lists(champion, choices=choices), 3, 5)
    assert found.by == "choices"
    best = np.argsort(-cosine)[:5]
    assert [one.item_id for one in found.items] == [f"i{n:02d}" for n in best]
    np.testing.assert_allclose([one.similarity for one in found.items], cosine[best], atol=1e-5)
    together = taken_together(
        Ragged.from_lists([[3, 5, 7], [3, 5], [7, 9]], [[1.0] * 3, [1.0] * 2, [1.0] * 2]),
        40,
        4,
        None,
        0,
    )
    columns = (*champion.scorer.lists.columns, "together")
    tabled = with_lists(champion, tables={"together": together}, columns=columns)
    found = similar(tabled, 3, 5)
    assert found.by == "neighbours"
    assert [(one.item_id, one.similarity) for one in found.items] == [("i05", 1.0), ("i07", 0.5)]
    without = with_lists(champion, choices=None, tables={}, columns=("popularity", "learner"))
    by_attributes = similar(without, 3, 5)
    assert (by_attributes.by, by_attributes.items) == ("attributes", []), "titles are no attributes"
    answer = served.client.get("/v1/similar/i03").json()
    assert answer == similar(champion, 3, 10).model_dump(mode="json")
    missing = served.client.get("/v1/similar/shelf%2F7")
    assert missing.status_code == 404
    assert missing.json()["detail"] == "the catalogue has no item 'shelf/7'."


def with_lists(champion: ServedChampion, **changed: Any) -> ServedChampion:
    lists = dataclasses.replace(champion.scorer.lists, **changed)
    return dataclasses.replace(champion, scorer=dataclasses.replace(champion.scorer, lists=lists))
