"""The configuration of how interactions become tasks."""

import dataclasses
from typing import Final, Literal

SplitKind = Literal["temporal", "random", "melu_states", "global-time"]
"""The kinds of split: what is held out, and which of a user's rows are query rows; see
`recmeta.tasks.splits`."""
TEMPORAL: Final[tuple[SplitKind, ...]] = ("temporal", "global-time")
"""The kinds of split in which a user's support comes before the query in time."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How interactions become tasks."""

    split: Literal["auto", SplitKind] = "auto"
    """How users and rows are held out. `auto` is `temporal` if the log has times, and `random`
    otherwise. `global-time` holds out users and time: the users who come last are cold, and no
    model learns from a row that is later than their first one."""
    objective: Literal["auto", "rating", "implicit"] = "auto"
    """What is learned. `auto` is `rating` if the log has rating events, and `implicit`
    otherwise."""
    events: tuple[str, ...] | None = None
    """The kinds of event that count. If not set, ratings count for the objective `rating`, and all
    kinds for `implicit`."""
    support_size: int = 20
    """The most support rows of a task, for `temporal` and `global-time`."""
    query_size: int = 20
    """The most query rows of a development or test task; for `random`, of every task."""
    min_interactions: int = 2
    """Users (in a state) with fewer rows are left out; MeLU has 13."""
    max_interactions: int | None = None
    """Users (in a state) with more rows are left out; MeLU has 100."""
    dev_share: float = 0.1
    """The share of users who choose hyperparameters and the number of epochs; for `global-time` it
    is about this share, of the users who come last before the cold users."""
    test_share: float = 0.2
    """The share of cold users, whom no model sees before evaluation; for `global-time` it is about
    this share, of the users who come last."""
    new_item_share: float = 0.2
    """The share of new items, for `melu_states`."""
    new_item_attribute: str | None = None
    """The numeric item attribute whose highest values mark new items, such as `release_year`, for
    `melu_states`. If not set, new items are drawn by a stable hash."""

    def __post_init__(self) -> None:
        for name in ("dev_share", "test_share", "new_item_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in [0, 1).")
        if self.dev_share + self.test_share >= 1:
            raise ValueError(
                f"dev_share {self.dev_share} and test_share {self.test_share} leave no user to "
                "meta-train on; their sum must be below 1."
            )
        if self.support_size < 0 or self.query_size < 1 or self.min_interactions < 1:
            raise ValueError(
                f"support_size {self.support_size} must be at least 0, query_size "
                f"{self.query_size} and min_interactions {self.min_interactions} at least 1."
            )
        if self.max_interactions is not None and self.max_interactions < self.min_interactions:
            raise ValueError(
                f"max_interactions {self.max_interactions} is below min_interactions "
                f"{self.min_interactions}."
            )
