"""Everything that asking needs, learned once from the training users (`fitting.py`) and saved.

    questionnaire.json         candidates' ids, settings
    questionnaire.safetensors  what was learned; nothing in it belongs to a single user

Legend: C candidates, K classes.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import safetensors.numpy

from recmeta.config import parse, to_dict
from recmeta.errors import UserError, did_you_mean
from recmeta.metalearn.learner import HasPosterior
from recmeta.metalearn.model import Model
from recmeta.serving.evidence.adaptive_loss import AdaptiveLoss
from recmeta.serving.evidence.controls import RandomOrder
from recmeta.serving.evidence.familiarity import LatentClasses, LikelyKnown
from recmeta.serving.evidence.greedy import GreedyConfig
from recmeta.serving.evidence.information import About, InformationGain
from recmeta.serving.evidence.strategy import Candidates, FixedOrder, Strategy
from recmeta.tasks.arrays import Float64Array
from recmeta.workspace import Folder, sealed

StrategyName = Literal[
    "random",
    "popularity",
    "known-items",
    "gradient-norm",
    "greedy-loss",
    "information-gain",
    "adaptive-loss",
]
STRATEGIES: tuple[StrategyName, ...] = get_args(StrategyName)


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuestionnaireConfig:
    """How a questionnaire is made."""

    num_candidates: int = 2000
    """The number of items that may be asked about: those that most training users rated."""
    most_users: int = 1000
    """The most training users on whom answers are tried; further ones are left out at random."""
    num_classes: int = 8
    """The number of latent classes of what people know; 1 is popularity."""
    about: About = "predictions"
    """What `information-gain` is the information about: a user's weights, or the predictions of
    what people rate."""
    greedy: GreedyConfig = GreedyConfig()
    """The selection of `greedy-loss`."""
    seed: int = 0
    """The seed of all draws."""

    def __post_init__(self) -> None:
        for name in ("num_candidates", "most_users", "num_classes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")


@dataclasses.dataclass(frozen=True)
class Questionnaire:
    """What the strategies of one model need."""

    config: QuestionnaireConfig
    candidates: Candidates
    classes: LatentClasses
    fall_KC: Float64Array
    """The amount by which an answer lowers the query loss, by class: see `adaptive_loss.py`."""
    lists: Mapping[str, Float64Array]
    """(C,) worths, by the name of a strategy that asks everybody the same."""

    def names(self, model: Model) -> tuple[StrategyName, ...]:
        """Return the strategies that apply to a model."""
        has_posterior = isinstance(model.learner, HasPosterior)
        return tuple(n for n in STRATEGIES if has_posterior or n != "information-gain")

    def strategy(self, name: str, model: Model) -> Strategy:
        """Return a strategy.

        Raises:
            UserError: for an unknown name, and one that does not apply to the model.
        """
        if name in self.lists:
            return FixedOrder(name, self.lists[name])
        if name == "random":
            return RandomOrder(self.candidates, self.config.seed)
        if name == "known-items":
            return LikelyKnown(self.classes)
        if name == "adaptive-loss":
            return AdaptiveLoss(self.classes, self.fall_KC)
        if name == "information-gain":
            return InformationGain(model, self.candidates, self.classes, self.config.about)
        raise unknown_strategy(name)

    def save(self, folder: Folder, model: Model) -> None:
        """Write the questionnaire; items by their ids, which other catalogues know, too."""
        arrays = {f"list.{name}": worth_C for name, worth_C in self.lists.items()}
        arrays["share"] = self.candidates.share_C
        arrays["class.weight"] = self.classes.weight_K
        arrays["class.share"] = self.classes.share_KC
        arrays["class.fall"] = self.fall_KC
        plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        folder.write_bytes("questionnaire.safetensors", safetensors.numpy.save(plain))
        ids = model.catalogue.items.item_id.take(pa.array(self.candidates.item_C))
        about = {"config": to_dict(self.config), "item_id": ids.to_pylist()}
        folder.write_json("questionnaire.json", about)

    @classmethod
    def load(cls, folder: Folder, model: Model) -> "Questionnaire":
        """Read what `save` wrote.

        Raises:
            UserError: if the model's catalogue lacks one of the items.
            Broken: if a file is missing or not what was written.
        """
        folder = sealed(folder)
        about = folder.read_json("questionnaire.json")
        found = pc.index_in(pa.array(about["item_id"], pa.string()), model.catalogue.items.item_id)
        if found.null_count:
            raise UserError(
                f"{folder.path} asks about {found.null_count} items that are not in the model's "
                "catalogue: make it again with `recmeta evidence`."
            )
        arrays = safetensors.numpy.load(folder.read_bytes("questionnaire.safetensors"))
        lists = {n.removeprefix("list."): a for n, a in arrays.items() if n.startswith("list.")}
        return cls(
            parse(QuestionnaireConfig, about["config"]),
            Candidates(found.to_numpy().astype(np.int64), arrays["share"]),
            LatentClasses(arrays["class.weight"], arrays["class.share"]),
            arrays["class.fall"],
            lists,
        )


def unknown_strategy(name: str) -> UserError:
    """Return the error that says which strategies there are."""
    return UserError(
        f"there is no strategy {name!r}.{did_you_mean(name, STRATEGIES)} "
        f"There are: {', '.join(STRATEGIES)}."
    )
