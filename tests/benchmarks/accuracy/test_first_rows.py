"""Lists from the first rows of a log: nobody sees a later user, and what was measured is kept."""

import numpy as np
import pytest
from small_logs import small_log

from benchmarks.accuracy.arriving import SHOTS, Arrived, problem_of
from benchmarks.accuracy.first_rows import Setting, TiesAtRandom
from recmeta.tasks.task_set import Tasks
from recmeta.workspace import MemoryFolder


@pytest.mark.parametrize("has_times", [True, False])
def test_first_rows_are_those_that_came_first_without_held_out_users(has_times: bool) -> None:
    log = small_log()
    if not has_times:
        log = log.select(np.ones(len(log.user), np.bool_))
        log = type(log)(**{**vars(log), "time": None})
    arrived = Arrived.of(log, seed=0)
    assert arrived.is_held_U.sum() == 8
    small, whole = arrived.first(300), arrived.first(None)
    assert len(small) == 300
    assert set(small) <= set(whole)
    assert not arrived.is_held_U[log.user[whole]].any()
    assert (np.diff(log.user[whole]) >= 0).all()
    if log.time is not None:
        others = np.setdiff1d(np.flatnonzero(~arrived.is_held_U[log.user]), small)
        assert log.time[small].max() <= log.time[others].min()
    held_out = arrived.held_out(0)
    assert set(held_out.user_id) == {f"u{u:03d}" for u in np.flatnonzero(arrived.is_held_U)}
    assert (held_out.support.lengths == 10).all()
    assert (held_out.query.lengths == 20).all()


def test_the_users_who_appear_last_are_the_judges() -> None:
    arrived = Arrived.of(small_log(), seed=0)
    rows = arrived.first(2_000)
    problem = problem_of(arrived, rows, is_graded=True)
    development = problem.development["user_cold"]
    assert len(problem.train) == len(development.train) + len(development.judges)
    assert len(development.judges) == round(0.2 * len(problem.train))
    log = arrived.log
    assert log.time is not None
    number = {name: n for n, name in enumerate(log.profiles["user_id"].to_pylist())}
    first_U = np.full(log.num_users, np.inf)
    np.minimum.at(first_U, log.user, log.time)
    earlier = max(first_U[number[name]] for name in development.train.user_id)
    later = min(first_U[number[name]] for name in development.judges.user_id)
    assert earlier <= later
    few = problem_of(arrived, arrived.first(4), is_graded=True)
    assert len(few.development["user_cold"].judges) == 0


def test_what_was_measured_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting("ml-100k", Arrived.of(small_log(num_users=40), seed=0), 500, 0)
    work = MemoryFolder()
    found = {name: setting.cell(name, work) for name in ("popularity", "prior-fitted")}
    assert setting.cell("ease", work, only_kept=True) is None
    for one in found.values():
        assert one is not None
        assert one.value_KU.shape == (len(SHOTS), 4)
        assert (one.value_KU >= 0).all()
    monkeypatch.setattr(Setting, "measured", lambda *_: pytest.fail("it was measured again"))
    for name, one in found.items():
        kept = setting.cell(name, work)
        assert kept is not None
        assert one is not None
        np.testing.assert_array_equal(kept.value_KU, one.value_KU)
        assert kept.fit_seconds == one.fit_seconds


def test_ties_are_broken_at_random_and_nothing_else_changes() -> None:
    class Predictor:
        name, predicts_values = "levels", True

        def score_query(self, tasks: Tasks) -> np.ndarray:
            raise AssertionError("lists alone are asked for")

        def score_items(self, tasks: Tasks) -> np.ndarray:
            return np.tile([2.0, 1.0, 2.0, 3.0, 2.0, np.nan], (400, 1))

    nobody = Arrived.of(small_log(), seed=0).held_out(0)
    found = TiesAtRandom(Predictor(), 0).score_items(nobody)
    assert np.isnan(found[:, 5]).all()
    assert (found[:, 3] == found[:, :5].max(1)).all()
    assert (found[:, 1] == found[:, :5].min(1)).all()
    first = np.bincount(found[:, [0, 2, 4]].argmax(1), minlength=3)
    assert first.min() > 90  # a third of 400 each, by four standard deviations
    np.testing.assert_array_equal(TiesAtRandom(Predictor(), 0).score_items(nobody), found)
