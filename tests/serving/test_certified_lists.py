"""Users for whom a model's lists are not certified get popular items."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from recmeta.metalearn.heads.certificate import Certificate, Segment
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.lists import ListMaker, Lists
from recmeta.serving.ranking import ScoringConfig, adapt_users
from recmeta.serving.rules import Rules
from recmeta.tasks.task_set import TaskSet
from recmeta.workspace import Folder


def certificate(
    certified: dict[tuple[str | None, int], bool], attribute: str | None
) -> Certificate:
    return Certificate(
        level=0.1,
        tolerance=0.02,
        attribute=attribute,
        segments=tuple(
            Segment(
                fewest=fewest,
                value=value,
                num_users=100,
                advantage=0.1,
                at_least=0.0,
                is_certified=is_certified,
            )
            for (value, fewest), is_certified in certified.items()
        ),
        violation_rate=0.0,
        border_rate=0.1,
        num_resamples=1000,
    )


FROM_THREE = certificate({(None, 0): False, (None, 1): False, (None, 3): True}, None)


@pytest.fixture
def partly(model: Model, task_set: TaskSet, tmp_path: Path) -> Model:
    """The model with a certificate that holds from three interactions on, saved and read again."""
    folder = Folder.at(tmp_path)
    model.certificate = FROM_THREE
    try:
        model.save(folder)
    finally:
        model.certificate = None
    found = Model.load(folder)
    assert found.certificate == FROM_THREE
    return found.on(task_set.items(), task_set.statistics())


def lists(model: Model, task_set: TaskSet, num_shots: int, **config: object) -> Lists:
    tasks = task_set.tasks("test").with_shots(num_shots)
    scorer = Scorer.of(model)
    # Without popularity in the order, so that the model's lists are others.
    scoring = ScoringConfig(top_k=5, reasons=False, popularity_weight=0.0, **config)  # type: ignore[arg-type]
    return ListMaker(scorer, scoring).make(adapt_users(scorer, tasks), tasks)


def popular(model: Model, task_set: TaskSet, num_shots: int) -> Lists:
    return lists(model, task_set, num_shots, rules=Rules(min_interactions=100))


def test_users_who_are_not_certified_get_popular_items(partly: Model, task_set: TaskSet) -> None:
    before = dataclasses.replace(FROM_THREE, segments=())
    for shots in (0, 2):
        found = lists(partly, task_set, shots)
        assert found.is_popular_Bk.all()
        assert (found.item_Bk == popular(partly, task_set, shots).item_Bk).all()
        own = lists(partly, task_set, shots, never_worse=False)
        assert not own.is_popular_Bk.any()
        assert (own.item_Bk != found.item_Bk).any()
    certified = lists(partly, task_set, 3)
    lengths = task_set.tasks("test").with_shots(3).support.lengths
    assert (certified.is_popular_Bk.all(1) == (lengths < 3)).all()
    own = lists(partly, task_set, 3, never_worse=False)
    kept = lengths >= 3
    assert kept.any()
    assert (certified.item_Bk[kept] == own.item_Bk[kept]).all()
    np.testing.assert_allclose(certified.score_Bk[kept], own.score_Bk[kept], rtol=1e-5)
    partly.certificate = before  # nothing that is not certified
    assert not lists(partly, task_set, 0).is_popular_Bk.any()


def test_a_whole_certificate_and_none_change_no_list(model: Model, task_set: TaskSet) -> None:
    plain = lists(model, task_set, 2)
    model.certificate = certificate({(None, 0): True, (None, 1): True}, None)
    try:
        found = lists(model, task_set, 2)
    finally:
        model.certificate = None
    assert (found.item_Bk == plain.item_Bk).all()
    np.testing.assert_array_equal(found.worth_Bk, plain.worth_Bk)
    assert not found.is_popular_Bk.any()


def test_groups_of_a_profile_are_served_apart(model: Model, task_set: TaskSet) -> None:
    tasks = task_set.tasks("test")
    group_B = np.array(tasks.profile["group"].to_pylist())
    name = str(group_B[0])
    model.certificate = certificate({(None, 0): False, (name, 0): True}, "group")
    try:
        found = lists(model, task_set, 2)
    finally:
        model.certificate = None
    assert (found.is_popular_Bk.all(1) == (group_B != name)).all()
    assert (group_B != name).any()
