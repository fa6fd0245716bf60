"""The search space of `recmeta tune`: ranges and choices by the names of the configuration.

[train.training]
learning_rate = { low = 1e-4, high = 1e-2, log = true }
[train.model.network]
hidden_dims = { choices = [[64], [64, 64]] }
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recmeta.config import parse, read_toml
from recmeta.errors import UserError
from recmeta.metalearn.registry import config_class
from recmeta.tasks.task_set import Objective


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dimension:
    """The values that one hyperparameter may take: `choices`, or everything between two bounds."""

    choices: tuple[Any, ...] = ()
    """Values to choose from, without an order."""
    low: int | float | None = None
    """The lowest value; if both bounds are whole numbers, only whole numbers are tried."""
    high: int | float | None = None
    """The highest."""
    log: bool = False
    """Whether to draw uniformly on the logarithm."""

    def __post_init__(self) -> None:
        is_range = self.low is not None and self.high is not None
        if is_range == bool(self.choices):
            raise ValueError("give either choices, or low and high.")
        if self.low is not None and self.high is not None:
            if self.low > self.high:
                raise ValueError(f"low {self.low} is above high {self.high}.")
            if self.log and self.low <= 0:
                raise ValueError(f"low is {self.low}; with log it must be positive.")

    def suggest(self, trial: Any, name: str) -> Any:
        """Return the value that an `optuna.Trial` takes for this dimension."""
        if self.choices:  # as text: Optuna keeps no lists
            return json.loads(
                trial.suggest_categorical(name, [json.dumps(choice) for choice in self.choices])
            )
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


Space = dict[str, Dimension]
"""Dimensions by the dotted name of a hyperparameter below `train`, such as
`training.learning_rate`."""

COMMON: Space = {
    "training.learning_rate": Dimension(low=3e-4, high=1e-2, log=True),
    "training.weight_decay": Dimension(low=1e-3, high=2.0, log=True),
    "episodes.batch_size": Dimension(choices=(16, 32, 64)),
    "episodes.max_support": Dimension(choices=(20, 60, 90)),
}
"""How any learner is trained."""
NETWORK: Space = {
    "model.network.embedding_dim": Dimension(choices=(16, 32, 64)),
    "model.network.hidden_dims": Dimension(choices=((), (64,), (64, 64), (128, 64))),
    "model.network.use_statistics": Dimension(choices=(False, True)),
}
"""The preference estimator; for a learner without one, these values have no effect."""
LEARNER: Space = {
    "num_steps": Dimension(low=1, high=5),
    "inner_learning_rate": Dimension(low=0.01, high=0.5, log=True),
    "adapt_layers": Dimension(choices=("all", "last")),
    "support_prior": Dimension(choices=(0.0, 1.0, 3.0, 10.0)),
    "hidden_share": Dimension(choices=(0.0, 0.25, 0.5)),
    "num_factors": Dimension(choices=(8, 16, 32)),
    "num_slots": Dimension(choices=(2, 4, 8)),
    "width": Dimension(choices=(16, 32, 64)),
    "num_layers": Dimension(low=1, high=3),
    "latent_dim": Dimension(choices=(8, 16, 32)),
    "divergence_weight": Dimension(low=0.01, high=1.0, log=True),
}
"""Dimensions by the name of a hyperparameter, for every learner that has it."""
INNER_LOOP: Space = {
    "adapt_layers": Dimension(choices=("all", "last")),
    "num_steps": Dimension(low=1, high=5),
    "rates_per": Dimension(choices=("layer", "parameter")),
    "inner_learning_rate": Dimension(low=0.01, high=0.5, log=True),
    "second_order": Dimension(choices=(True, False)),
    "support_prior": Dimension(choices=(0.0, 1.0, 3.0, 10.0)),
}
"""The inner loop itself: which parameters adapt, in how many steps, with rates per layer or per
parameter (a diagonal preconditioner: Meta-SGD), and whether the outer gradient goes through
them."""
INNER_LOSSES: dict[Objective, Dimension] = {
    "rating": Dimension(choices=("squared", "absolute")),
    "implicit": Dimension(choices=("bce", "softmax", "squared")),
}
"""What the inner steps descend, by kind of feedback."""
INNER_LOOP_NAME = "inner-loop"
"""The name of the space over the inner loop, where a file's could be given."""
BY_DEFINITION: dict[str, frozenset[str]] = {
    "anil": frozenset(["adapt_layers"]),
    "fomaml": frozenset(["second_order"]),
    "meta-sgd": frozenset(["rates_per"]),
    "transfer-fine-tuned": frozenset(["second_order"]),
    "transfer-frozen": frozenset(["adapt_layers", "second_order"]),
}
"""Hyperparameters that define an algorithm, and are not tuned."""
SMOOTH_LOSSES = frozenset(["implicit-maml"])
"""Learners whose inner loss must have a curvature, which an absolute error has not."""


def named_space(name: str | None, algorithm: str, objective: Objective) -> Space:
    """Return what to search of a learner: its default space, that over its inner loop, or a file's.

    Args:
        name: None, `inner-loop` or the path of a TOML file.

    Raises:
        UserError: as `space_of`, `inner_loop_of` and `read_space` do.
    """
    if name is None:
        return space_of(algorithm)
    if name == INNER_LOOP_NAME:
        return inner_loop_of(algorithm, objective)
    return read_space(Path(name))


def space_of(algorithm: str) -> Space:
    """Return the default search space of a learner.

    Raises:
        UserError: if there is no such learner.
    """
    return COMMON | NETWORK | _of_learner(algorithm, LEARNER)


def inner_loop_of(algorithm: str, objective: Objective) -> Space:
    """Return the search space over a learner's inner loop.

    Raises:
        UserError: if there is no such learner, or it takes no inner steps.
    """
    losses = INNER_LOSSES[objective]
    if algorithm in SMOOTH_LOSSES:
        smooth = tuple(name for name in losses.choices if name != "absolute")
        losses = dataclasses.replace(losses, choices=smooth)
    space = _of_learner(algorithm, INNER_LOOP | {"inner_objective": losses})
    if "model.learner.num_steps" not in space:
        raise UserError(
            f"the learner {algorithm!r} has no inner loop to search: name one that adapts by "
            "gradient steps, such as maml, with --learner."
        )
    return space


def _of_learner(algorithm: str, dimensions: Space) -> Space:
    """Return those dimensions that a learner has, and that do not define it."""
    known = {field.name for field in dataclasses.fields(config_class(algorithm))}
    own = known - BY_DEFINITION.get(algorithm, frozenset())
    return {f"model.learner.{name}": d for name, d in dimensions.items() if name in own}


def read_space(path: Path) -> Space:
    """Return the space of a TOML file, which has a table `[train]` like a configuration's.

    Raises:
        UserError: if it cannot be read, or something in it is neither a table of names nor a
            dimension.
    """
    values = read_toml(path, "search space")
    others = sorted(set(values) - {"train"})
    if others or "train" not in values:
        raise UserError(
            f"the search space {str(path)!r} has {', '.join(others) or 'no table'}; it must have "
            "one table, [train], with what is to be tried of meta-train."
        )
    return dict(_dimensions(values["train"], "", str(path)))


def _dimensions(values: Any, where: str, path: str) -> list[tuple[str, Dimension]]:
    names = {field.name for field in dataclasses.fields(Dimension)}
    if not isinstance(values, Mapping) or not values:
        raise UserError(
            f"in the search space {path!r}, train.{where} is {values!r}; write "
            "{ choices = [..] } or { low = .., high = .. }."
        )
    if set(values) <= names and not any(isinstance(v, Mapping) for v in values.values()):
        return [(where, parse(Dimension, values, f"train.{where}"))]
    found = []
    for name, value in values.items():
        found += _dimensions(value, f"{where}.{name}" if where else name, path)
    return found


def nested(name: str, value: Any) -> dict[str, Any]:
    """Return a dotted name and its value as nested tables."""
    for part in reversed(name.split(".")):
        value = {part: value}
    return dict(value)
