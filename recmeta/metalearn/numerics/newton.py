"""Newton's method for a convex loss of a few numbers, with halved steps.

Legend: P parameters.
"""

from collections.abc import Callable

import numpy as np

from recmeta.tasks.arrays import Float64Array

MAX_ITERATIONS = 50
LEAST_STEP = 1e-4
"""Share of a whole step below which none is taken."""
TOLERANCE = 1e-9
"""A step that lowers the loss by less is the last."""


def minimised(
    start_P: Float64Array,
    loss: Callable[[Float64Array], float],
    derivatives: Callable[[Float64Array], tuple[Float64Array, Float64Array]],
) -> Float64Array:
    """Return where the loss is least, (P,).

    Args:
        loss: may be infinite where a step must not lead.
        derivatives: the slope (P,) and the curvature (P, P), or its expectation (Fisher scoring).
    """
    found_P, now = start_P, loss(start_P)
    for _ in range(MAX_ITERATIONS):
        slope_P, curve_PP = derivatives(found_P)
        step_P = np.linalg.solve(curve_PP, slope_P)
        before, size = now, 1.0
        while size > LEAST_STEP and (now := loss(found_P - size * step_P)) > before:
            size /= 2
        if now >= before:
            break
        found_P = found_P - size * step_P
        if before - now < TOLERANCE:
            break
    return found_P
