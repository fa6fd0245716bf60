"""The table of content from another data set pairs what was measured on the same users."""

import pytest

from benchmarks.speed.content_transfer import _row


def test_differences_are_those_of_the_same_users_and_seeds() -> None:
    without = [{"a": 1.0, "b": 0.5}, {"b": 0.7, "c": 0.9}]
    errors = [{"a": 0.9, "b": 0.5}, {"b": 0.5, "c": 0.9}]
    row = _row("anil", 25, "frozen", 5, errors, without)
    assert row["mae"] == pytest.approx((0.9 + 0.5 + 0.9) / 3, abs=1e-4)
    assert row["difference"] == pytest.approx((-0.1 - 0.1 + 0.0) / 3, abs=1e-4)
    assert row["measured_users"] == 3
    assert row["interval"].startswith("[-")
    assert _row("anil", 25, "none", 5, without, without)["difference"] is None
