"""Tolerances of numerical tests, from conditioning instead of from trial.

Two correct ways to compute one thing round differently: other kernels, other processors, other
orders of summation. A rounding moves a result as a change of its inputs by a unit in the last place
does (Higham: Accuracy and Stability of Numerical Algorithms, SIAM, 2nd edition 2002, section 1.5),
so that the two may be apart by

    roundings × (precision × condition)

The condition, how much a relative change of the inputs moves the result, is measured with random
changes (Kenney and Laub: Small-sample statistical condition estimates for general matrix functions,
SIAM Journal on Scientific Computing, 1994). These are themselves of the size of rounding: so the
estimate has in it what an iterative solver that stops early, and whose last directions are rounding
alone, makes of them.
"""

from collections.abc import Callable, Mapping

import torch

from recmeta.metalearn.learner import Params

CHANGE = 16
"""Of the inputs, in units in the last place: large beside the roundings of one evaluation, small
beside anything that bends."""
NUM_CHANGES = 4
"""Evaluations with changed inputs. The effect of one is about normal: less than a third of the
condition in a quarter of all cases, and that four times in less than one of a hundred."""


def tolerances(
    compute: Callable[[Params], Mapping[str, torch.Tensor]],
    params: Params,
    *,
    roundings: int,
    inexact: float = 0.0,
) -> dict[str, float]:
    """Return by name how far each result may be from the same result computed in another way.

    Args:
        compute: the function under test, of parameters of one floating-point type.
        params: where it is evaluated.
        roundings: how many of them a number of the result has behind it: the lengths of the sums
            that follow one another, added up. More is safe; the error grows like its root.
        inexact: relative error of either way besides rounding, such as the residual at which a
            solver stops, relative to the inputs; it is amplified by the same condition.

    Returns:
        The largest absolute errors, for `torch.testing.assert_close(..., rtol=0, atol=...)`.
    """
    dtype = next(iter(params.values())).dtype
    precision = torch.finfo(dtype).eps
    generator = torch.Generator().manual_seed(0)
    base = {name: t.detach() for name, t in compute(params).items()}
    # A result is rounded itself, though nothing may depend on the parameters.
    condition = {name: _largest(t) for name, t in base.items()}
    for _ in range(NUM_CHANGES):
        changed = {
            name: p.detach() * (1 + CHANGE * precision * _signs(p, generator))
            for name, p in params.items()
        }
        for name, t in compute(changed).items():
            moved = _largest(t.detach() - base[name]) / (CHANGE * precision)
            condition[name] = max(condition[name], moved)
    share = roundings * precision + inexact
    return {name: share * number for name, number in condition.items()}


def assert_equal_but_for_rounding(
    found: Mapping[str, torch.Tensor],
    expected: Mapping[str, torch.Tensor],
    within: Mapping[str, float],
) -> None:
    """Compare results by name.

    Args:
        within: largest absolute errors, from `tolerances`.

    Raises:
        AssertionError: with the name of a result that is missing or further off.
    """
    assert found.keys() == expected.keys()
    for name, t in found.items():
        try:
            torch.testing.assert_close(t, expected[name], rtol=0, atol=within[name])
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None


def _signs(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return 1 and -1 at random."""
    return torch.randint(0, 2, like.shape, generator=generator).to(like) * 2 - 1


def _largest(t: torch.Tensor) -> float:
    """Return the largest absolute value, 0 of none."""
    return float(t.abs().amax()) if t.numel() else 0.0
