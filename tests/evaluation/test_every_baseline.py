"""Every baseline that is registered keeps what every baseline must keep."""

import importlib.util
from typing import Any

import pytest
from evaluation_tasks import low_rank_tasks, make_spec

from recmeta.errors import UserError
from recmeta.evaluation.baseline import Baseline, BaselineSearch
from recmeta.evaluation.fit_baselines import (
    BASELINES,
    BESIDE_EVERY_MODEL,
    baseline,
    fit_baselines,
    usual_baselines,
    what_was_left_out,
)
from recmeta.evaluation.judgement import JudgementConfig
from recmeta.testing.baseline_conformance import BaselineConformance

ALIKE_FOR_ALL = ("global-mean", "item-mean", "popularity")


class TestEveryBaseline(BaselineConformance):
    @pytest.fixture(autouse=True, params=list(BASELINES))
    def _choose(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        name = request.param
        monkeypatch.setattr(type(self), "baseline", baseline(name), raising=False)
        monkeypatch.setattr(type(self), "reads_support", name not in ALIKE_FOR_ALL)


@pytest.mark.parametrize("name", BASELINES)
def test_a_file_is_called_as_its_baseline(name: str) -> None:
    assert baseline(name).name == name


def test_the_usual_ones_suit_the_feedback() -> None:
    for objective, names in BESIDE_EVERY_MODEL.items():
        assert all(objective in baseline(name).objectives for name in names)


def test_the_gate_takes_those_that_are_named() -> None:
    train, dev = low_rank_tasks(30, 12, 8, 5, seed=0), low_rank_tasks(10, 12, 8, 5, seed=1)
    path = "recmeta.evaluation.baselines.averages.user_median:BASELINE"
    fitted = fit_baselines(make_spec(12), train, dev, names=["item-mean", path])
    assert list(fitted) == ["item-mean", "user-median"]
    with pytest.raises(UserError, match="two baselines 'item-mean'"):
        fit_baselines(make_spec(12), train, dev, names=["item-mean", "item-mean"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("item-men",), "no baseline 'item-men'. Did you mean 'item-mean'"),
        (("content-ridge",), "needs the items"),
        (("weighted-als",), "'weighted-als' learns from feedback of the kind implicit"),
        (("nowhere:BASELINE",), "'nowhere:BASELINE' cannot be imported"),
        (("numpy:ndarray",), "must be a recmeta.evaluation.baseline.Baseline"),
    ],
)
def test_what_cannot_be_fitted_is_refused(names: tuple[str, ...], message: str) -> None:
    tasks = low_rank_tasks(10, 12, 8, 5, seed=0)
    with pytest.raises(UserError, match=message):
        fit_baselines(make_spec(12), tasks, tasks, names=names)


def test_an_absent_library_is_named() -> None:
    def nothing(*_: Any) -> Any:
        raise AssertionError("it is never fitted")

    needs = Baseline(name="needs", candidates=nothing, fit_all=nothing, library="no_such_library")
    tasks = low_rank_tasks(10, 12, 8, 5, seed=0)
    search = BaselineSearch.of(make_spec(12), tasks, tasks, 0, lambda _: None)
    with pytest.raises(UserError, match=r"no_such_library.*recmeta\[accuracy\]"):
        search.fitted(needs)


def test_usual_baselines_without_their_library_are_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *more: None if name in ("implicit", "lightgbm") else find_spec(name, *more),
    )
    fitted_here, left_out = usual_baselines("rating")
    assert left_out == ["ials", "boosted-trees"]
    assert [*fitted_here, *left_out] == list(BESIDE_EVERY_MODEL["rating"])
    assert what_was_left_out(left_out) == (
        "The baselines ials (library implicit), boosted-trees (library lightgbm) were left out: "
        "pip install 'recmeta[accuracy]' installs what they need."
    )
    assert what_was_left_out(["ials"]).startswith("The baseline ials (library implicit) was left")
    tasks = low_rank_tasks(10, 12, 8, 5, seed=0)
    with pytest.raises(UserError, match="'ials' needs the library implicit"):
        fit_baselines(make_spec(12), tasks, tasks, names=["ials"])
    found = fit_baselines(make_spec(12), tasks, tasks)
    assert list(found) == fitted_here


def test_an_unknown_name_is_refused_before_anything_runs() -> None:
    with pytest.raises(UserError, match="Did you mean 'popularity'"):
        JudgementConfig(baselines=("popularty",))
    assert JudgementConfig(baselines=("ease",)).baselines == ("ease",)
