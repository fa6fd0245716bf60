"""Which engine runs the units of a step, and how often a lost unit is restarted."""

import dataclasses
from typing import Literal

from recmeta.errors import UserError

EngineName = Literal["local", "ray"]
MOST_LOSSES = 3
"""How often a unit is restarted after its worker was lost."""
WAITING_PER_WORKER = 2
"""Number of units that are handed out to each worker, so that no worker waits for the next one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Which workers run the units of a step."""

    engine: EngineName = "local"
    """`local` uses processes of this machine. `ray` uses Ray's actors, on this machine or on the
    cluster that the environment variable RAY_ADDRESS names."""
    workers: int = 1
    """How many units run at once. One local worker is this process."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError(f"workers is {self.workers}; it must be at least 1.")
        if self.engine not in ("local", "ray"):
            raise UserError(f"engine is {self.engine!r}; it must be 'local' or 'ray'.")

    @property
    def is_here(self) -> bool:
        """Whether this process runs the units itself."""
        return self.engine == "local" and self.workers == 1


HERE = EngineConfig()
"""This process alone."""


def lost(how_often: int) -> UserError:
    """Return the error for workers that are lost again and again."""
    return UserError(
        f"a worker ended {how_often} times before it was done, as it does where memory runs out: "
        "take fewer with --workers, or look into the machine's log."
    )
