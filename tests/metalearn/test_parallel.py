"""Pieces of work on threads: in order, with the caller's gradient mode, in forked children too."""

import os
import threading
from collections.abc import Iterator

import pytest
import torch

from recmeta.metalearn.numerics.threads import in_turn, on_threads, one_thread

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_order(threads: int) -> None:
    assert on_threads(lambda n: n * n, range(50), CPU) == [n * n for n in range(50)]
    assert on_threads(lambda n: n, [], CPU) == []
    assert torch.get_num_threads() == threads


def test_the_first_is_there_before_all_are(threads: int) -> None:
    """Sums are taken as pieces come, and no more than a few of them are kept."""
    last = threading.Event()
    found = in_turn(lambda n: last.wait(timeout=60) if n == 40 else n, range(41), CPU)
    assert next(found) == 0
    last.set()
    assert list(found) == [*range(1, 40), True]


def test_small_work_has_one_thread(threads: int) -> None:
    with one_thread(True):
        assert torch.get_num_threads() == 1
        assert on_threads(abs, range(4), CPU) == [0, 1, 2, 3]
    assert torch.get_num_threads() == threads
    with one_thread(False):
        assert torch.get_num_threads() == threads


def test_pieces_run_side_by_side() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    both = threading.Barrier(2)
    try:
        places = on_threads(lambda n: both.wait(timeout=60), range(2), CPU)  # alone, none passes
    finally:
        torch.set_num_threads(before)
    assert sorted(places) == [0, 1]


@pytest.mark.parametrize("recording", [True, False])
def test_the_callers_gradient_mode_holds(threads: int, recording: bool) -> None:
    with torch.set_grad_enabled(recording):
        assert on_threads(lambda n: torch.is_grad_enabled(), range(4), CPU) == [recording] * 4


def test_an_exception_reaches_the_caller_and_the_threads_go_on(threads: int) -> None:
    def fails(n: int) -> int:
        if n == 2:
            raise RuntimeError("piece 2")
        return n

    with pytest.raises(RuntimeError, match="piece 2"):
        on_threads(fails, range(5), CPU)
    assert on_threads(abs, [-1, -2], CPU) == [1, 2]


def test_a_forked_child_has_threads_of_its_own(threads: int) -> None:
    on_threads(abs, range(4), CPU)  # the parent's are there
    child = os.fork()
    if child == 0:  # no thread of the parent's lives here: waiting for one would never end
        os._exit(0 if on_threads(abs, [-3, -4], CPU) == [3, 4] else 1)
    assert os.waitpid(child, 0)[1] == 0
