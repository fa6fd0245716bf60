"""Newton's method with step halving, for a convex loss of a few parameters.

Legend: P parameters.
"""

from collections.abc import Callable

import numpy as np

from recmeta.tasks.arrays import Float64Array

MAX_ITERATIONS = 50
LEAST_STEP = 1e-4
"""The smallest share of a whole step that is tried."""
TOLERANCE = 1e-9
"""The method stops after a step that lowers the loss by less than this."""


def minimised(
    start_P: Float64Array,
    loss: Callable[[Float64Array], float],
    derivatives: Callable[[Float64Array], tuple[Float64Array, Float64Array]],
) -> Float64Array:
    """Return the minimum of the loss, (P,).

    Args:
        loss: the loss of parameters (P,); infinite where a step must not lead.
        derivatives: returns the gradient (P,) and the Hessian (P, P), or its expectation (Fisher
            scoring).
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
