"""Why an item has its score: which interactions and which of its features moved it."""

import dataclasses
from typing import Any, Literal

import numpy as np

from recmeta import schema
from recmeta.errors import UserError
from recmeta.metalearn.learner import UserState
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.explanations import support_effects
from recmeta.serving.feature_effects import feature_effects, features, scores_knowing
from recmeta.serving.spelling import number_of
from recmeta.tasks.arrays import Float32Array
from recmeta.tasks.task_set import Tasks

FeatureMethod = Literal["ablation", "shapley"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupportReason:
    """One interaction of the user, and its effect on the score."""

    item_id: str
    title: str
    value: float
    """The value that the user gave it; 1 for implicit feedback."""
    effect: float
    """The score minus the score without this interaction, which is exact."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureReason:
    """One feature of the item, and its effect on the score."""

    name: str
    value: str
    """The value in the catalogue; empty if it has none."""
    effect: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why an item has the score that it has for a user."""

    user_id: str
    item_id: str
    title: str
    score: float
    """In units of the value, before it is clipped to its range; a logit for implicit feedback."""
    score_of_unknown_user: float
    """The score for a user with this profile and no interaction, from which the effects start."""
    support: tuple[SupportReason, ...]
    """The interactions that the user is adapted to, the largest effect first."""
    features: tuple[FeatureReason, ...]
    """The item's features, the largest effect first."""
    feature_method: FeatureMethod
    """`ablation` gives the score minus the score without the feature. `shapley` gives shares that
    add up to the score minus that of an item without known features."""

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return dataclasses.asdict(self)


def explain(
    model: Model, tasks: Tasks, item_id: str, method: FeatureMethod = "ablation"
) -> Explanation:
    """Return why a model gives an item its score for one user.

    Args:
        tasks: one user.
        item_id: in the model's catalogue.
        method: how effects of features are computed.

    Raises:
        UserError: for an item that the catalogue does not have, and for `shapley` without Captum.
    """
    items = model.catalogue.items
    item = number_of(items, model.catalogue.lookup, item_id)
    names = items.names()
    scorer = Scorer.of(model)
    effects = support_effects(scorer, tasks, np.array([[item]]))
    nothing = support_effects(scorer, tasks.with_shots(0), np.array([[item]]))
    support = [
        SupportReason(
            item_id=items.item_id[number].as_py(),
            title=names[number].as_py(),
            value=value,
            effect=effect,
        )
        for number, value, effect in zip(
            tasks.support.item.tolist(),
            tasks.support.value.tolist(),
            effects.effect_Nk[:, 0].tolist(),
            strict=True,
        )
    ]
    state = scorer.adapt(tasks)
    if method == "shapley":
        effect_F = _shapley(model, state, item)
    else:
        effect_F = feature_effects(model, state, item).effect_F
    reasons = [
        FeatureReason(name=name, value=_shown(model, item, name), effect=effect)
        for name, effect in zip(features(model), effect_F.tolist(), strict=True)
    ]
    return Explanation(
        user_id=tasks.user_id[0],
        item_id=items.item_id[item].as_py(),
        title=names[item].as_py(),
        score=float(effects.score_Bk[0, 0]),
        score_of_unknown_user=float(nothing.score_Bk[0, 0]),
        support=tuple(sorted(support, key=lambda r: -abs(r.effect))),
        features=tuple(sorted(reasons, key=lambda r: -abs(r.effect))),
        feature_method=method,
    )


def _shapley(
    model: Model, state: UserState, item: int, *, num_orders: int = 25, seed: int = 0
) -> Float32Array:
    """Return what each feature adds, averaged over sampled orders in which features become known
    (Castro, Gómez, Tejada, Computers & Operations Research 2009)."""
    try:
        import torch
        from captum.attr import ShapleyValueSampling
    except ModuleNotFoundError as error:
        raise UserError(
            "Shapley effects are computed by Captum, which is not installed: install "
            "recmeta[explain], or take the method 'ablation'."
        ) from error

    def score(known_MF: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(scores_knowing(model, state, item, known_MF.numpy() > 0.5))

    num_features = len(features(model))
    with torch.random.fork_rng(devices=[]):  # Captum draws from the global generator
        torch.manual_seed(seed)
        effect_1F = ShapleyValueSampling(score).attribute(
            torch.ones((1, num_features)),
            n_samples=num_orders,
            perturbations_per_eval=num_features,
        )
    result: Float32Array = effect_1F[0].float().numpy()
    return result


def _shown(model: Model, item: int, name: str) -> str:
    """Return a feature's value as text; for the past, the number of users who interacted with the
    item."""
    items = model.catalogue.items
    if name in items.attributes.column_names:
        value = items.attributes[name][int(items.newest()[item])].as_py()
        if isinstance(value, list):
            return ", ".join(map(str, value))
        return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    if name == schema.ITEM_ID:
        return str(items.item_id[item].as_py())
    return f"{model.catalogue.statistics.num_users[-1, item]:g} users"
