"""The levels of a rating scale, found in values."""

import numpy as np
import pytest

from recmeta.metalearn.heads.median import MOST_LEVELS, count_levels, top_share


@pytest.mark.parametrize(
    ("values", "value_range", "expected"),
    [
        ([1, 2, 3, 4, 5], (1, 5), 5),
        ([2, 5], (1, 5), 5),  # 1 is on the scale, if nobody gave it
        ([0.5, 1, 4.5], (0.5, 5), 10),
        ([0.1, 0.2, 0.7], (0, 1), 11),  # not representable, yet evenly spaced
        ([1, 2, 3.7], (1, 5), None),
        ([3, 3], (3, 3), None),
        ([], (0, 1), 2),
    ],
)
def test_levels_are_counted(
    values: list[float], value_range: tuple[float, float], expected: int | None
) -> None:
    assert count_levels(np.array(values, np.float32), value_range) == expected


def test_a_fine_scale_has_no_steps() -> None:
    within = np.arange(MOST_LEVELS, dtype=np.float32)
    assert count_levels(within, (0, MOST_LEVELS - 1)) == MOST_LEVELS
    assert count_levels(within, (0, MOST_LEVELS)) is None


def test_the_most_frequent_value_has_its_share() -> None:
    assert top_share(np.array([5, 1, 5, 5], np.float32)) == 0.75
    assert top_share(np.zeros(0, np.float32)) == 0.0
