"""As many requests are taken as are answered in time, whatever it is that takes the time."""

import pytest

from recmeta.endpoint.guard.admission import Admission


def _taken(admission: Admission, number: int) -> list[int]:
    """Return the places of the requests that are taken, of so many that come."""
    places = (admission.take() for _ in range(number))
    return [place for place in places if place is not None]


def test_before_the_first_answer_all_are_taken_that_there_may_be() -> None:
    admission = Admission(fewest=4, most=20, longest_seconds=0.1)
    assert _taken(admission, 30) == list(range(1, 21))
    assert admission.num_in_hand == 20


def test_as_many_are_taken_as_are_answered_in_time() -> None:
    """Five milliseconds each: of those that come at once, the twentieth is answered after 100."""
    admission = Admission(fewest=4, most=1_000, longest_seconds=0.1)
    for _ in range(1_000):
        for place in _taken(admission, 10):
            admission.done(place, 0.005 * place)
    assert admission.num_in_hand == 0
    assert admission.expected_seconds == pytest.approx(0.005)
    assert len(_taken(admission, 100)) == pytest.approx(20, abs=1)


def test_it_learns_that_the_server_has_become_slower_and_faster() -> None:
    admission = Admission(fewest=4, most=1_000, longest_seconds=0.1)
    numbers = []
    for seconds in (0.005, 0.02, 0.002):
        for _ in range(50):
            for place in _taken(admission, 10):
                admission.done(place, seconds * place)
        places = _taken(admission, 100)
        numbers.append(len(places))
        for place in places:
            admission.done(place, None)
    assert numbers == pytest.approx([20, 5, 50], abs=1)


def test_a_slow_server_takes_the_fewest() -> None:
    admission = Admission(fewest=4, most=1_000, longest_seconds=0.1)
    for _ in range(100):
        for place in _taken(admission, 1):
            admission.done(place, 2.0)
    assert len(_taken(admission, 100)) == 4


def test_what_was_not_answered_teaches_nothing_and_gives_its_place_back() -> None:
    admission = Admission(fewest=1, most=2, longest_seconds=0.1)
    first, second = _taken(admission, 5)
    admission.done(first, None)
    assert admission.expected_seconds == 0.0
    assert _taken(admission, 5) == [2]
    admission.done(second, 0.1)
    assert admission.num_in_hand == 1
