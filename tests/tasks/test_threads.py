"""Pieces come out in order, and only as many are in work as there are threads."""

import threading
import time
from collections.abc import Iterator

import pytest

from recmeta.tasks.threads import MOST_THREADS, in_threads


def test_results_are_in_order_and_do_not_pile_up() -> None:
    begun: list[int] = []

    def pieces() -> Iterator[int]:
        for number in range(40):
            begun.append(number)
            yield number

    def work(number: int) -> tuple[int, str]:
        time.sleep(0.004 * (number % 3))
        return number, threading.current_thread().name

    found = []
    for result in in_threads(work, pieces()):
        found.append(result)
        assert len(begun) <= len(found) + MOST_THREADS
    assert [number for number, _ in found] == list(range(40))
    assert threading.current_thread().name not in {name for _, name in found}


def test_what_goes_wrong_is_told_in_its_turn() -> None:
    results = in_threads(lambda number: 1 // (number - 2), range(5))
    assert [next(results), next(results)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_nothing_is_nothing() -> None:
    assert list(in_threads(str, [])) == []
