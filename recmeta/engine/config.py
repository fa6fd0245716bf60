"""Which engine does the units of a step, and how often a lost one is begun again."""

import dataclasses
from typing import Literal

from recmeta.errors import UserError

EngineName = Literal["local", "ray"]
MOST_LOSSES = 3
"""Times that a unit is begun again after its worker was lost."""
WAITING_PER_WORKER = 2
"""Units that are handed out for each worker, so that none waits for the next."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Who does the units of a step."""

    engine: EngineName = "local"
    """`local`: processes of this machine. `ray`: Ray's, on this machine, or on the cluster that the
    environment variable RAY_ADDRESS names."""
    workers: int = 1
    """How many units are done at once. One local worker is this process."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError(f"workers is {self.workers}; it must be at least 1.")
        if self.engine not in ("local", "ray"):
            raise UserError(f"engine is {self.engine!r}; it must be 'local' or 'ray'.")

    @property
    def is_here(self) -> bool:
        """Whether this process does the units itself."""
        return self.engine == "local" and self.workers == 1


HERE = EngineConfig()
"""This process alone."""


def lost(how_often: int) -> UserError:
    """Return what to say where workers are lost again and again."""
    return UserError(
        f"a worker ended {how_often} times before it was done, as it does where memory runs out: "
        "take fewer with --workers, or look into the machine's log."
    )
