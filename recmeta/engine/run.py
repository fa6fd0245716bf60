"""The units of a step, run by any number of workers, with the results in order.

A unit is a function of its key alone: it reads only the key and what its worker holds, usually a
model, and its only effect is its result, which the step writes. Any worker may therefore run it,
and run it again if another worker was lost, and the tables are the same. The engine and the number
of workers are not part of a step's key.
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
        make: makes what a worker holds and calls with keys, once for each worker. It, the keys and
            the results are pickled, unless this process runs the units.

    Raises:
        UserError: if workers are lost again and again. Errors of a unit are raised, too.
        MissingExtraError: if Ray is asked for and is not installed.
    """
    if config.is_here:
        function = make()
        yield from map(function, keys)
    elif config.engine == "local":
        yield from in_processes(make, keys, config.workers)
    else:
        yield from on_ray(make, keys, config.workers)
