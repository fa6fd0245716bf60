"""The hyperparameters of meta-learning what users take next."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceConfig:
    """The hyperparameters of meta-learning what users take next; docs/choices.md says how they were
    chosen."""

    num_factors: int = 64
    """The length of an item's vector."""
    num_steps: int = 1
    """The number of gradient steps of the inner loop."""
    most_rows: int = 30
    """The most known rows of an episode. For a user with more rows, only the newest count. If rows
    have no order, all count, each with less weight."""
    dropout: float = 0.5
    """The share of an adapted user's vector that is left out of an episode."""
    batch_size: int = 64
    """The number of users per outer step."""
    learning_rate: float = 1e-3
    """The learning rate of AdamW."""
    weight_decay: float = 0.0
    """The weight decay of AdamW, per step, as a share of the learning rate."""
    epochs: int = 20
    """The most passes over the training users; with 0 what users take next is not learned."""
    patience: int = 3
    """The number of passes without a greater likelihood for the development users after which
    training stops."""
    catalogue_sample: int = 20_000
    """The number of items in the softmax besides those of the batch; a larger catalogue is
    sampled."""

    def __post_init__(self) -> None:
        for name in (
            *("num_factors", "num_steps", "most_rows", "batch_size", "patience"),
            "catalogue_sample",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.epochs < 0:
            raise ValueError(f"epochs is {self.epochs}; it must not be negative.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be at least 0 and less than 1.")
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise ValueError(
                f"learning_rate {self.learning_rate} must be positive, weight_decay "
                f"{self.weight_decay} not negative."
            )
