"""The units of a step, done by as many workers as there are, with the results in their order.

A unit is a function of its key alone: it reads nothing but the key and what its worker holds, a
model mostly, and leaves nothing but its result, which the step writes. So any worker may do it, and
do it again where another was lost on the way, and the same tables come out. Which engine the
workers are of, and how many there are, is no part of what a step is known by.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from recmeta.engine.config import HERE, EngineConfig
from recmeta.engine.on_ray import on_ray
from recmeta.engine.processes import in_processes

K = TypeVar("K")
R = TypeVar("R")


def run(
    make: Callable[[], Callable[[K], R]], keys: Iterable[K], config: EngineConfig = HERE
) -> Iterator[R]:
    """Yield the result of every key, in the order of the keys; some keys are read ahead.

    Args:
        make: makes what a worker holds, once for each, and calls with keys. It, the keys and the
            results are pickled, unless this process does the units.

    Raises:
        UserError: where workers are lost again and again; and what a unit raises.
        MissingExtraError: where Ray is asked for and is not installed.
    """
    if config.is_here:
        function = make()
        yield from map(function, keys)
    elif config.engine == "local":
        yield from in_processes(make, keys, config.workers)
    else:
        yield from on_ray(make, keys, config.workers)
