"""Whom to generate."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Generated users of rare profiles, from whom meta-training learns beside the real ones. For
    ratings only."""

    attribute: str
    """The categorical attribute of users whose rare values are meant, such as `occupation`."""
    least_users: int = 30
    """The number of training users below which a value is rare. As many users are generated as it
    has fewer."""

    def __post_init__(self) -> None:
        if self.least_users < 1:
            raise ValueError(f"least_users is {self.least_users}; it must be at least 1.")
