"""A recipe with a TOML file and single values laid over it, strictly parsed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recmeta.config import merged, parse, read_toml, to_dict
from recmeta.errors import UserError, did_you_mean
from recmeta.recipes import RECIPES, PipelineConfig
from recmeta.training.config import MetaTrainConfig
from recmeta.training.recipes import training_of

MODELS = ("train", "implicit", "rival", "implicit_rival")
"""The models of a recipe."""


def pipeline_config(
    recipe: str = "default",
    *,
    learner: str | None = None,
    path: Path | None = None,
    values: Mapping[str, Any] | None = None,
    seed: int | None = None,
    epochs: int | None = None,
) -> PipelineConfig:
    """Return a recipe's configuration with some of its values replaced.

    Args:
        recipe: a name in `RECIPES`.
        learner: an algorithm, trained by its own recipe on the features that this recipe reads; it
            replaces the rest of the recipe's training, for implicit feedback, too. If None, it is
            the one that the file names as `train.model.algorithm`, else the recipe's.
        path: a TOML file whose values win over the recipe's and the learner's.
        values: the same as nested tables, in its place.
        seed: of splits, training and evaluation; wins over both.
        epochs: most epochs of meta-training; wins over both.

    Raises:
        UserError: for an unknown recipe, learner, key or value.
    """
    if recipe not in RECIPES:
        raise UserError(
            f"there is no recipe {recipe!r}.{did_you_mean(recipe, list(RECIPES))} "
            f"There are: {', '.join(RECIPES)}."
        )
    over = _with_members(dict(values or {}) if path is None else read_toml(path))
    values = to_dict(RECIPES[recipe]())
    learner = learner or _algorithm_in(over)
    if learner is not None and learner != _algorithm_in(values):
        features = values["train"]["model"]["features"]
        values["train"] = _of(training_of(learner), features)
        implicit = training_of(learner, "implicit")
        as_ever = implicit == training_of(learner)
        values["implicit"] = None if as_ever else _of(implicit, features)
    elif (learner or _at(over, "train", "model", "learner")) and _algorithm_of(
        values["implicit"] or {}
    ) != _algorithm_in(values):
        values["implicit"] = None  # what is said of one learner holds for any feedback
    of_any = {name: value for name, value in over.get("train", {}).items() if name != "members"}
    values = _trained(values, ("implicit",), of_any)
    values = merged(values, over)
    if learner is not None:
        values = merged(values, {"train": {"model": {"algorithm": learner}}})
    if seed is not None:
        seeds = {"tasks": {"seed": seed}, "evaluate": {"evaluation": {"seed": seed}}}
        values = _trained(merged(values, seeds), MODELS, {"seed": seed})
    if epochs is not None:
        shorter = {"training": {"epochs": epochs}}
        values = _trained(values, MODELS, shorter)
        for model in (values[m] for m in MODELS if values.get(m) is not None):
            model["members"] = [merged(member, shorter) for member in model["members"]]
    return parse(PipelineConfig, values)


def _of(how: MetaTrainConfig, features: Mapping[str, Any]) -> dict[str, Any]:
    """Return a learner's training on these features."""
    values = to_dict(how)
    values["model"]["features"] = features
    return values


def _trained(
    values: Mapping[str, Any], models: tuple[str, ...], over: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the values with others laid over the training of those models that there are."""
    return {**values, **{m: merged(values[m], over) for m in models if values.get(m) is not None}}


def _with_members(over: dict[str, Any]) -> dict[str, Any]:
    """Return a file's values with each member of a selector trained as is best for its learner,
    where the file does not say otherwise."""
    for model in MODELS:
        members = _at(over, model, "members")
        if members is None and _at(over, model, "model", "learner", "members") is not None:
            raise UserError(
                f"{model}.model.learner.members is set: say in {model}.members which learners "
                "there are to choose from, and how they are trained."
            )
        if _at(over, model, "model", "learner", "base") is not None:
            raise UserError(
                f"{model}.model.learner.base is set: say in {model}.members which learner it is, "
                "and how it is trained."
            )
        if not isinstance(members, list) or not all(isinstance(m, Mapping) for m in members):
            continue  # nothing to lay over anything; parsing explains a wrong type
        named = [_algorithm_of(member) for member in members]
        own = [to_dict(training_of(name)) for name in named]
        laid = [merged(training, m) for training, m in zip(own, members, strict=True)]
        over = merged(over, {model: {"members": laid}})
    return over


def _algorithm_of(member: Mapping[str, Any]) -> str:
    found = _at(member, "model", "algorithm")
    return MetaTrainConfig().model.algorithm if found is None else str(found)


def _algorithm_in(values: Mapping[str, Any]) -> str | None:
    """Return the algorithm that a configuration names, if it names one."""
    found = _at(values, "train", "model", "algorithm")
    return None if found is None else str(found)


def _at(values: Any, *names: str) -> Any:
    """Return what stands in a table of tables under these names, or None."""
    for name in names:
        if not isinstance(values, Mapping) or name not in values:
            return None
        values = values[name]
    return values
