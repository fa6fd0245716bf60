"""Units run by Ray's actors, each of which holds a model (Moritz et al., OSDI 2018).

Ray hands out units and restarts lost actors; its group-by and sort are not used. Without
RAY_ADDRESS, a Ray on this machine is started and stopped here. Workers on other machines need
recmeta installed, but no shared folder, since keys carry everything that a unit reads.
"""

import collections
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from recmeta.engine.config import MOST_LOSSES, WAITING_PER_WORKER, lost
from recmeta.extras import require

K = TypeVar("K")
R = TypeVar("R")
ADDRESS = "RAY_ADDRESS"


class Worker:
    """The interface of an actor."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        self.function = make()

    def work(self, key: Any) -> Any:
        """Return the result of a key."""
        return self.function(key)


def on_ray(make: Callable[[], Callable[[K], R]], keys: Iterable[K], workers: int) -> Iterator[R]:
    """Yield the results in order; the next key goes to the actor with the shortest queue.

    Raises:
        MissingExtraError: if Ray is not installed.
    """
    require("ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    is_mine = not ray.is_initialized()
    if is_mine and os.environ.get(ADDRESS):
        ray.init(log_to_driver=False)
    elif is_mine:
        environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        ray.init(
            num_cpus=workers,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": environment},
        )
    try:
        held = ray.put(make)
        actor = ray.remote(num_cpus=1, max_restarts=MOST_LOSSES, max_task_retries=MOST_LOSSES)(
            Worker
        )
        actors = [actor.remote(held) for _ in range(workers)]
        yield from _in_order(ray, actors, iter(keys))
    finally:
        if is_mine:
            ray.shutdown()


def _in_order(ray: Any, actors: list[Any], keys: Iterator[Any]) -> Iterator[Any]:
    """Yield the results of keys, in order."""
    waiting: collections.deque[Any] = collections.deque()
    of_actor: dict[Any, int] = {}
    load = [0] * len(actors)
    while True:
        try:
            while len(waiting) < WAITING_PER_WORKER * len(actors):
                number = load.index(min(load))
                reference = actors[number].work.remote(next(keys))
                load[number] += 1
                of_actor[reference] = number
                waiting.append(reference)
        except StopIteration:
            if not waiting:
                return
        first = waiting.popleft()
        try:
            result = ray.get(first)
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from None
        except ray.exceptions.RayActorError as error:
            raise lost(MOST_LOSSES + 1) from error
        load[of_actor.pop(first)] -= 1
        yield result
