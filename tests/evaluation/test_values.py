import numpy as np
import pytest

from recmeta.evaluation.measuring.values import describe


@pytest.mark.parametrize(
    ("values", "value_range", "relevant_from", "num_levels", "has_tail"),
    [
        ([1, 2, 3, 4, 5], (1, 5), 3.4, 5, False),
        ([0] * 95 + [1] * 5, (0, 1), 0.6, 2, False),  # few are liked, and that is no tail
        ([-10, -2.25, 4.5, 10], (-10, 10), 2.0, None, False),
        ([5] * 99 + [1], (1, 5), 3.4, 2, False),
        ([*range(1, 200), 90_000], (1, 90_000), 150.25, None, True),
        ([1] * 199 + [90_000], (1, 90_000), 54_000.4, 2, False),  # nothing is above the rest
    ],
)
def test_what_is_relevant_goes_by_the_scale_unless_a_tail_has_stretched_it(
    values: list[float],
    value_range: tuple[float, float],
    relevant_from: float,
    num_levels: int | None,
    has_tail: bool,
) -> None:
    found = describe(np.array(values, np.float32), value_range)
    assert found.relevant_from == pytest.approx(relevant_from)
    assert (found.num_levels, found.has_tail) == (num_levels, has_tail)
    assert (found.lowest, found.highest) == value_range
    assert found.median == np.median(values)
