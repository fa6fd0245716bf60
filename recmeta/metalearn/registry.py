"""The learners by name: those in `recmeta.metalearn.algorithms`, and those of installed
packages."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recmeta.config import parse
from recmeta.errors import UserError
from recmeta.plugins import Registry

if TYPE_CHECKING:
    from recmeta.metalearn.learner_config import LearnerConfig

LEARNERS: Registry["type[LearnerConfig]"] = Registry(
    "learner", package="recmeta.metalearn.algorithms", attribute="LEARNER"
)
"""The classes of the learners' hyperparameters. A file there names its own `LEARNER`; an entry
point of the group `recmeta.learners` leads to such a class."""


def config_class(algorithm: str) -> "type[LearnerConfig]":
    """Return the class of a learner's hyperparameters.

    Raises:
        UserError: if the name leads to no learner.
    """
    from recmeta.metalearn.learner_config import LearnerConfig

    found = LEARNERS[algorithm]
    if not (isinstance(found, type) and issubclass(found, LearnerConfig)):
        raise UserError(
            f"the learner {algorithm!r} is {found!r}; it must be a subclass of "
            "recmeta.metalearn.learner_config.LearnerConfig."
        )
    return found


def with_learner(data: Mapping[str, Any], algorithm: str, where: str) -> dict[str, Any]:
    """Return a configuration's values whose `learner` is parsed as its `algorithm`'s, for the
    `before_parsing` of a dataclass with both fields.

    Args:
        algorithm: the default, if `data` names none.
        where: the path to `data` in the user's file, for messages.
    """
    values = dict(data)
    named, learner = values.get("algorithm", algorithm), values.get("learner")
    if isinstance(named, str) and isinstance(learner, Mapping):
        place = f"{where}.learner" if where else "learner"
        values["learner"] = parse(config_class(named), learner, place)
    return values
