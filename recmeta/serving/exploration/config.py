"""How much lists explore, and for whom."""

import dataclasses
from typing import Literal

from recmeta.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExploreConfig:
    """How much lists explore, and for whom."""

    share: float = 0.2
    """The probability with which each place of a list explores, from 0 to 1: 0.2 of a list of ten
    is two places on average, anywhere in the list."""
    by: Literal["thompson", "uniform"] = "thompson"
    """What an exploring place gets. `thompson`: the item that is best by one draw from the user's
    posterior (Thompson, Biometrika 1933; Russo et al., A Tutorial on Thompson Sampling, 2018); it
    needs a learner that has one. `uniform`: any candidate, all with equal probability
    (ε-greedy)."""
    most_interactions: int = 10
    """Lists of users with more known interactions than this do not explore."""
    candidates: int = 100
    """The number of best items from which exploring places choose."""
    draws: int = 500
    """The number of lists drawn for each user to estimate the probability of each item at its
    place, if it is not known in closed form (`thompson`)."""
    seed: int = 0
    """The seed of all draws. A user's draws depend on it, on the user's name and on the user's
    known interactions, and on nothing else."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise UserError(f"explore.share is {self.share}; it must be from 0 to 1.")
        for name, least in (
            ("most_interactions", 0),
            ("candidates", 2),
            ("draws", 1),
            ("seed", 0),
        ):
            if getattr(self, name) < least:
                raise UserError(
                    f"explore.{name} is {getattr(self, name)}; it must be at least {least}."
                )
